import { heartbeatPlan } from "../../../src/cluster/state/limits.ts";
import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire } from "../../../src/cluster/dispatch/dispatch.ts";
import { reschedules } from "../../../src/cluster/dispatch/reschedules.ts";
import { updateLiveness, tick } from "../../../src/cluster/liveness/liveness.ts";
import {
  disconnect,
  goodbye,
  heard,
  isKnownModel,
  reportEngine,
} from "../../../src/cluster/state/registry.ts";
import { type ClusterState } from "../../../src/cluster/state/state.ts";
import {
  accepted,
  addWorker,
  cluster,
  giveBack,
  hello,
  report,
  router,
  T0,
  tryJoin,
  request,
} from "../fixtures.ts";

/** Ticks on time until `to`; returns the transitions as words. */
function run(state: ClusterState, to: number): string[] {
  const seen: string[] = [];
  for (let now = state.lastTickAt + 250; now <= to; now += 250) {
    for (const { worker, from, to } of tick(state, now)) seen.push(`${worker.name} ${from}>${to}`);
  }
  return seen;
}

test("silent for 5 s is stale, for 15 s lost, gone after 10 min; a word brings it back", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  expect(run(state, T0 + 4750)).toEqual([]);
  expect(run(state, T0 + 5000)).toEqual(["a ready>stale"]);
  expect(worker.reason).toBe("silent for 5.0s");
  heard(worker, T0 + 5100);
  expect(run(state, T0 + 5250)).toEqual(["a stale>ready"]);
  expect(run(state, T0 + 21_000)).toEqual(["a ready>stale", "a stale>lost"]);
  run(state, T0 + 620_000);
  expect(state.workers.has(worker.id)).toBe(true);
  run(state, T0 + 620_500);
  expect(state.workers.has(worker.id)).toBe(false);
});

test("a broken session is stale at once and lost in time", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  disconnect(state, worker);
  expect(updateLiveness(state, worker, T0 + 10)?.to).toBe("stale");
  expect(worker.reason).toStartWith("connection lost");
  expect(run(state, T0 + 15_000)).toEqual(["a stale>lost"]);
});

test("a tick that comes late moves every deadline", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  run(state, T0 + 1000);
  // The head was stopped for a minute: the worker could not be heard, which is not its fault.
  expect(tick(state, T0 + 61_000)).toEqual([]);
  expect(worker.state).toBe("ready");
  expect(run(state, T0 + 64_500)).toEqual([]);
  expect(run(state, T0 + 65_000)).toEqual(["a ready>stale"]);
});

test("goodbye drains, then the worker has left", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  const catalog = createCatalogReader(state);
  const at = { now: T0, random: () => 0 };
  const grant = acquire({ state, catalog: catalog(), router }, request("m"), at);
  if (!grant.granted) throw new Error(grant.message);
  goodbye(state, worker, { left: false, reason: "stopping", deadlineMs: 30_000 });
  expect(updateLiveness(state, worker, T0)?.to).toBe("draining");
  expect(acquire({ state, catalog: catalog(), router }, request("m"), at).granted).toBe(false);
  giveBack(state, grant.lease);
  expect(run(state, T0 + 250)).toEqual(["a draining>drained"]);
  goodbye(state, worker, { left: true, reason: "stopping", deadlineMs: 0 });
  expect(run(state, T0 + 500)).toEqual(["a drained>left"]);
  expect(catalog().size).toBe(0);
});

test("above 500 workers everything slows in proportion", () => {
  const state = cluster({ heartbeatWorkers: 2 });
  for (const id of ["aaaa", "bbbb", "cccc", "dddd"]) accepted(tryJoin(state, hello(id)));
  expect(heartbeatPlan(state)).toEqual({
    intervalMs: 2000,
    staleAfterMs: 10_000,
    lostAfterMs: 30_000,
    loadMaxAgeMs: 10_000,
  });
});

test("a model stays known for an hour after it was last there", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  for (let now = T0; now < T0 + 7_200_000; now += 1000) heard(worker, now);
  state.lastTickAt = T0 + 7_200_000;
  run(state, T0 + 7_220_000);
  expect(worker.state).toBe("lost");
  expect(isKnownModel(state, "m", T0 + 7_220_000 + 3_500_000)).toBe(true);
  expect(isKnownModel(state, "m", T0 + 7_220_000 + 3_700_000)).toBe(false);
  expect(isKnownModel(state, "other", T0)).toBe(false);
});

test("a starting engine makes the models of its command known", () => {
  const state = cluster();
  const { worker } = accepted(tryJoin(state, hello("aaaa")));
  const starting = report({ state: "STARTING", phase: "load 40%", expectedModels: ["new"] });
  reportEngine(state, { worker, report: starting }, T0);
  expect(isKnownModel(state, "new", T0 + 60_000)).toBe(true);
});

function lease(state: ClusterState, catalog: ReturnType<typeof createCatalogReader>) {
  const at = { now: T0, random: () => 0.99 };
  const grant = acquire({ state, catalog: catalog(), router }, request("m"), at);
  if (!grant.granted) throw new Error(grant.message);
  return grant.lease;
}

test("a stale worker's requests move if they have not started and another replica can take them", () => {
  const state = cluster();
  const catalog = createCatalogReader(state);
  const { worker } = addWorker(state, "a", { models: ["m"] });
  const [waiting, started] = [lease(state, catalog), lease(state, catalog)];
  started.started = true;
  disconnect(state, worker);
  updateLiveness(state, worker, T0 + 1);
  expect(reschedules({ state, catalog: catalog() }, T0 + 1)).toEqual([]);
  addWorker(state, "b", { models: ["m"] });
  const found = reschedules({ state, catalog: catalog() }, T0 + 2);
  expect(found.map(({ lease: { id }, kind }) => [id, kind])).toEqual([[waiting.id, "move"]]);
  expect(reschedules({ state, catalog: catalog() }, T0 + 3)).toEqual([]);
});

test("a request does not move back to where it has failed", () => {
  const state = cluster();
  const catalog = createCatalogReader(state);
  const a = addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  const wanted = request("m", { exclude: [b.engine.key] });
  const grant = acquire({ state, catalog: catalog(), router }, wanted, {
    now: T0,
    random: Math.random,
  });
  expect(grant.granted && grant.lease.engineKey).toBe(a.engine.key);
  disconnect(state, a.worker);
  updateLiveness(state, a.worker, T0 + 1);
  expect(reschedules({ state, catalog: catalog() }, T0 + 2)).toEqual([]);
});

test("a lost worker's running request ends only when it has been silent as long", () => {
  const state = cluster();
  const catalog = createCatalogReader(state);
  addWorker(state, "a", { models: ["m"] });
  const [quiet, streaming] = [lease(state, catalog), lease(state, catalog)];
  quiet.started = true;
  streaming.started = true;
  run(state, T0 + 14_000);
  streaming.progressAt = T0 + 14_000;
  run(state, T0 + 15_000);
  const found = reschedules({ state, catalog: catalog() }, T0 + 15_000);
  expect(found.map(({ lease: { id }, kind }) => [id, kind])).toEqual([[quiet.id, "fail"]]);
  const later = reschedules({ state, catalog: catalog() }, T0 + 29_000);
  expect(later.map(({ lease: { id }, kind }) => [id, kind])).toEqual([[streaming.id, "fail"]]);
});

test("an engine run that ended takes its requests along, after what was on its way has come", () => {
  const state = cluster();
  const catalog = createCatalogReader(state);
  const { worker } = addWorker(state, "a", { models: ["m"] });
  const old = lease(state, catalog);
  old.started = true;
  reportEngine(state, { worker, report: report({ run: "second", state: "STARTING" }) }, T0 + 100);
  expect(reschedules({ state, catalog: catalog() }, T0 + 2000)).toEqual([]);
  const found = reschedules({ state, catalog: catalog() }, T0 + 2100);
  expect(found.map(({ lease: { id }, kind }) => [id, kind])).toEqual([[old.id, "fail"]]);
});
