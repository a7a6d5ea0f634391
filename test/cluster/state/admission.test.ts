import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire } from "../../../src/cluster/dispatch/dispatch.ts";
import { disconnect, goodbye, heard } from "../../../src/cluster/state/registry.ts";
import { tick } from "../../../src/cluster/liveness/liveness.ts";
import {
  accepted,
  addWorker,
  cluster,
  giveBack,
  hello,
  refusal,
  router,
  T0,
  tryJoin,
  request,
} from "../fixtures.ts";

test("two workers of one host name get two names, and the same ones again", () => {
  const state = cluster();
  const first = accepted(tryJoin(state, hello("aaaa", { name: "gpu" })));
  const second = accepted(tryJoin(state, hello("bbbb", { name: "gpu", workerId: "bbbb0000" })));
  expect([first.worker.name, second.worker.name]).toEqual(["gpu", "gpu-bbbb"]);
  const again = hello("bbbb", { name: "gpu", workerId: "bbbb0000", epoch: 2 });
  expect(accepted(tryJoin(state, again)).worker.name).toBe("gpu-bbbb");
});

test("a name that a person chose is not given to two", () => {
  const state = cluster();
  accepted(tryJoin(state, hello("aaaa", { name: "gpu", nameChosen: true })));
  const other = hello("bbbb", { name: "gpu", nameChosen: true });
  expect(refusal(tryJoin(state, other))).toMatchObject({ code: "name_in_use", retry: false });
});

test("the name of a worker that has left or is lost is free", () => {
  const state = cluster();
  const { worker } = accepted(tryJoin(state, hello("aaaa", { name: "gpu", nameChosen: true })));
  goodbye(state, worker, { left: true, reason: "", deadlineMs: 0 });
  const other = accepted(tryJoin(state, hello("bbbb", { name: "gpu", nameChosen: true })));
  expect(other.worker.name).toBe("gpu");
  expect(state.workers.size).toBe(1);
});

test("a returning session of the same run replaces the old one and keeps its engines", () => {
  const state = cluster();
  const old = addWorker(state, "aaaa", { models: ["m"] });
  const result = accepted(tryJoin(state, hello("aaaa", { epoch: 2 }), T0 + 100));
  expect(result.replaces).toBe(old.session);
  expect([...result.worker.engines.keys()]).toEqual(["1"]);
  expect(state.endedRuns.size).toBe(0);
});

test("a session older than the one that counts is refused", () => {
  const state = cluster();
  accepted(tryJoin(state, hello("aaaa", { epoch: 3 })));
  for (const epoch of [2, 3]) {
    const late = tryJoin(state, hello("aaaa", { epoch }));
    expect(refusal(late)).toMatchObject({ code: "worker_in_use", retry: true });
  }
});

test("another run is refused while the old one was heard within 5 s, then accepted", () => {
  const state = cluster();
  const { worker } = addWorker(state, "aaaa", { models: ["m"] });
  heard(worker, T0 + 1000);
  disconnect(state, worker);
  const next = hello("aaaa", { run: "run-2" });
  const early = refusal(tryJoin(state, next, T0 + 5900));
  expect(early).toMatchObject({ code: "worker_in_use", retry: true });
  expect(early.reason).toContain("heard 4.9s ago");
  const late = accepted(tryJoin(state, next, T0 + 6000));
  expect(late.worker.engines.size).toBe(0);
  expect([...state.endedRuns.keys()]).toEqual(["run-aaaa"]);
});

test("another run is accepted at once when the old one has said goodbye", () => {
  const state = cluster();
  const { worker } = addWorker(state, "aaaa", { models: ["m"] });
  goodbye(state, worker, { left: true, reason: "", deadlineMs: 0 });
  expect(accepted(tryJoin(state, hello("aaaa", { run: "run-2" }), T0 + 1)).worker.left).toBe(false);
});

test("a run that took the engine over from the known one is accepted at once and goes on", () => {
  const state = cluster();
  const old = addWorker(state, "aaaa", { models: ["m"] });
  const catalog = createCatalogReader(state)();
  const wanted = request("m");
  const grant = acquire({ state, catalog, router }, wanted, { now: T0, random: () => 0 });
  if (!grant.granted) throw new Error(grant.message);
  goodbye(state, old.worker, { left: false, reason: "handed over", deadlineMs: 0 });
  disconnect(state, old.worker);
  const next = hello("aaaa", { run: "run-2", continues: "run-aaaa" });
  const { worker } = accepted(tryJoin(state, next, T0 + 100));
  expect([...worker.engines.keys()]).toEqual(["1"]);
  expect([worker.run, worker.drain, worker.inFlight]).toEqual(["run-2", null, 1]);
  // What runs on the engine is not rescheduled, and is counted to its end.
  expect(state.endedRuns.size).toBe(0);
  giveBack(state, grant.lease);
  expect(worker.inFlight).toBe(0);
});

test("a run that continues another one than the known is a stranger like any", () => {
  const state = cluster();
  addWorker(state, "aaaa", { models: ["m"] });
  for (const continues of ["", "run-other"]) {
    const late = tryJoin(state, hello("aaaa", { run: "run-2", continues }), T0 + 100);
    expect(refusal(late)).toMatchObject({ code: "worker_in_use" });
  }
});

test("versions that do not meet are refused with who must update", () => {
  const state = cluster();
  const newer = refusal(tryJoin(state, hello("aaaa", { protocol: 9, minProtocol: 9 })));
  const older = refusal(tryJoin(state, hello("aaaa", { protocol: 0, minProtocol: 0 })));
  expect([newer.code, older.code]).toEqual(["version_unsupported", "version_unsupported"]);
  expect(newer.reason).toContain("newer");
  expect(older.reason).toContain("older");
});

test.each([
  ["a short id", { workerId: "x" }],
  ["an id with a slash", { workerId: "../../../etc" }],
  ["an empty name", { name: "" }],
  ["a name with an escape", { name: "a\u001b[31mb" }],
  ["a name of 65 characters", { name: "a".repeat(65) }],
  ["an empty run", { run: "" }],
  [
    "33 labels",
    { labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`k${i}`, ""])) },
  ],
  ["a long label", { labels: { k: "v".repeat(600) } }],
])("%s breaks the contract", (_, wrong) => {
  const result = refusal(tryJoin(cluster(), hello("aaaa", wrong)));
  expect(result).toMatchObject({ code: "bad_message", retry: false });
});

test("a full head makes room by forgetting a worker that is gone, never one that is there", () => {
  const state = cluster({ maxWorkers: 2 });
  accepted(tryJoin(state, hello("aaaa")));
  accepted(tryJoin(state, hello("bbbb"), T0 + 10_000));
  expect(refusal(tryJoin(state, hello("cccc"), T0 + 10_000))).toMatchObject({ code: "head_full" });
  for (let now = T0; now <= T0 + 15_000; now += 250) tick(state, now);
  expect(accepted(tryJoin(state, hello("cccc"), T0 + 15_000)).worker.name).toBe("cccc");
  expect([...state.workers.keys()]).toEqual(["worker-bbbb", "worker-cccc"]);
});
