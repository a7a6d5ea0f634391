import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire } from "../../../src/cluster/dispatch/dispatch.ts";
import {
  deathsOf,
  hasCrashed,
  isSuspect,
  newPoison,
  noteCrash,
  noteFailed,
  POISON_LIMITS,
} from "../../../src/cluster/faults/poison.ts";
import { addWorker, cluster, router, T0, request } from "../fixtures.ts";

const limits = POISON_LIMITS;
const at = (now: number) => ({ now, limits });

test("two engines that end with the same body make it a killer, for ten minutes", () => {
  const poison = newPoison();
  expect(noteFailed(poison, { hash: "h", run: "r1" }, at(0))).toBeNull();
  expect(noteCrash(poison, "r1", at(100))).toEqual([]);
  expect(deathsOf(poison, "h", at(100))).toBe(0);
  // Here the end is known before the connection breaks.
  expect(noteCrash(poison, "r2", at(5000))).toEqual([]);
  expect(noteFailed(poison, { hash: "h", run: "r2" }, at(5100))).toEqual({ hash: "h", deaths: 2 });
  expect(deathsOf(poison, "h", at(5100))).toBe(2);
  expect(deathsOf(poison, "h", at(605_100))).toBe(2);
  expect(deathsOf(poison, "h", at(605_101))).toBe(0);
});

test("one engine dies once, however many requests with that body it had", () => {
  const poison = newPoison();
  for (let i = 0; i < 3; i += 1) noteFailed(poison, { hash: "h", run: "r1" }, at(0));
  noteCrash(poison, "r1", at(10));
  noteFailed(poison, { hash: "h", run: "r1" }, at(20));
  expect(deathsOf(poison, "h", at(20))).toBe(0);
});

test("other bodies, other runs and ends more than 2 s apart do not count", () => {
  const poison = newPoison();
  noteFailed(poison, { hash: "h", run: "r1" }, at(0));
  noteCrash(poison, "r1", at(2001));
  noteFailed(poison, { hash: "h", run: "r2" }, at(3000));
  noteCrash(poison, "r3", at(3100));
  noteFailed(poison, { hash: "other", run: "r3" }, at(3200));
  noteCrash(poison, "r4", at(4000));
  noteFailed(poison, { hash: "h", run: "r4" }, at(4100));
  expect(deathsOf(poison, "h", at(5000))).toBe(0);
  expect(deathsOf(poison, "other", at(5000))).toBe(0);
});

test("a crash is known for a while, a later life has its own", () => {
  const poison = newPoison();
  noteCrash(poison, "r1", at(0));
  expect([hasCrashed(poison, "r1"), hasCrashed(poison, "r2")]).toEqual([true, false]);
  noteCrash(poison, "r2", at(60_000));
  expect(hasCrashed(poison, "r1")).toBe(false);
});

test("what is remembered is bounded", () => {
  const poison = newPoison();
  const few = { ...limits, maxHashes: 10 };
  for (let i = 0; i < 100; i += 1) {
    noteFailed(poison, { hash: `h${i}`, run: `r${i}` }, { now: i, limits: few });
  }
  expect(poison.failed.length).toBeLessThanOrEqual(11);
  for (let i = 0; i < 100; i += 1) {
    noteCrash(poison, `c${i}`, { now: 200, limits: few });
    noteFailed(poison, { hash: `h${i}`, run: `c${i}` }, { now: 200, limits: few });
  }
  expect(poison.victims.size).toBe(10);
});

test("requests that were on an engine as it died go to engines of their own where they can", () => {
  const state = cluster();
  for (const id of ["a", "b", "c"]) addWorker(state, id, { models: ["m"] });
  const context = { state, catalog: createCatalogReader(state)(), router };
  const ask = (bodyHash: string) => {
    const grant = acquire(context, request("m", { bodyHash }), { now: T0, random: Math.random });
    if (!grant.granted) throw new Error(grant.message);
    return grant.lease;
  };
  // One engine has died with all of these on it.
  const how = { now: T0, limits: state.limits.poison };
  for (const hash of ["h1", "h2", "h3", "h4"]) noteFailed(state.poison, { hash, run: "gone" }, how);
  noteCrash(state.poison, "gone", how);
  expect(["h1", "other"].map((hash) => isSuspect(state.poison, hash, how))).toEqual([true, false]);
  const first = [ask("h1"), ask("h2"), ask("h3")].map(({ workerName }) => workerName);
  expect(first.toSorted()).toEqual(["a", "b", "c"]);
  // There is no fourth one: it is answered all the same, and so are others.
  expect(ask("h4").workerName).toMatch(/^[abc]$/);
  expect(ask("other").workerName).toMatch(/^[abc]$/);
});
