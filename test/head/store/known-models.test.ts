import { expect, test } from "bun:test";
import { remember } from "../../../src/cluster/state/registry.ts";
import { type ClusterState, createCluster } from "../../../src/cluster/state/state.ts";
import { keepKnownModels, loadKnownModels } from "../../../src/head/store/known-models.ts";
import { openStore, type Store } from "../../../src/head/store/store.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { tempDir } from "../../helpers/temp.ts";

const HOUR = 3_600_000;
const T0 = 10 * HOUR;

const card = (id: string) => ({ id, parent: null, maxModelLen: null, loaded: null, extra: {} });

/** One look of the keeper, at a time. */
function sync(state: ClusterState, store: Store, now: number): void {
  const options = { state, store, now: () => now, everyMs: 1_000_000, refreshMs: 60_000 };
  keepKnownModels(options)[Symbol.dispose]();
}

const stored = (store: Store) => store.list("models/").map(({ key, value }) => [key, value]);

test("names are written, refreshed when they get old, and gone after their hour", async () => {
  using dir = tempDir();
  await using store = openStore({ dir: dir.path, log: memoryLog().log });
  const state = createCluster(T0);
  remember(state, [card("a/b"), card("c")], T0);
  sync(state, store, T0);
  expect(stored(store)).toEqual([
    ["models/a/b", T0],
    ["models/c", T0],
  ]);
  const { revision } = store;
  sync(state, store, T0 + 1000);
  expect(store.revision).toBe(revision);
  remember(state, [card("c")], T0 + 30_000);
  sync(state, store, T0 + 30_000);
  expect(store.revision).toBe(revision);
  remember(state, [card("c")], T0 + 60_000);
  sync(state, store, T0 + 60_000);
  expect(stored(store)[1]).toEqual(["models/c", T0 + 60_000]);
  sync(state, store, T0 + HOUR + 1);
  expect(stored(store)).toEqual([["models/c", T0 + 60_000]]);
});

test("a new life of the head knows them, the latest of them where there are too many", async () => {
  using dir = tempDir();
  await using store = openStore({ dir: dir.path, log: memoryLog().log });
  for (const [id, at] of [
    ["old", T0 - HOUR - 1],
    ["first", T0 - 3000],
    ["third", T0 - 1000],
    ["second", T0 - 2000],
    // From before the clock was set back.
    ["future", T0 + HOUR],
    ["broken", "yesterday"],
  ] as const) {
    await store.put(`models/${id}`, at, { durable: false });
  }
  const state = createCluster(T0, { maxKnownModels: 3 });
  loadKnownModels(state, { store, now: T0 });
  expect([...state.knownModels]).toEqual([
    ["second", T0 - 2000],
    ["third", T0 - 1000],
    ["future", T0],
  ]);
  // What did not fit, or is too old, is not kept any longer.
  sync(state, store, T0);
  expect(stored(store).map(([key]) => key)).toEqual([
    "models/future",
    "models/second",
    "models/third",
  ]);
  expect(store.get("models/future")?.value).toBe(T0);
});
