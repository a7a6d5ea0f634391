import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire } from "../../../src/cluster/dispatch/dispatch.ts";
import { foreignLoad, isBusy, isOverloaded } from "../../../src/cluster/state/overload.ts";
import { reportLoads } from "../../../src/cluster/state/load.ts";
import type { EngineLoad } from "../../../src/protocol/messages.ts";
import { addWorker, cluster, giveBack, router, T0, request } from "../fixtures.ts";

function one() {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const say = (load: Partial<EngineLoad>, now = T0) =>
    reportLoads(worker, [{ engine: "1", sampleAgeMs: 0, ...load }], now);
  const overloaded = (now = T0) => isOverloaded(engine, { now, loadMaxAgeMs: 5000 });
  return { state, worker, engine, say, overloaded };
}

test("waiting above 5 or a cache 90 % full are an overload, 2 and 80 % end it, between nothing changes", () => {
  const { say, overloaded } = one();
  const steps: [Partial<EngineLoad>, boolean][] = [
    [{ waiting: 5, kvUsage: 0.89 }, false],
    [{ waiting: 6, kvUsage: 0 }, true],
    [{ waiting: 3, kvUsage: 0 }, true],
    [{ waiting: 2, kvUsage: 0.81 }, true],
    [{ waiting: 2, kvUsage: 0.8 }, false],
    [{ waiting: 0, kvUsage: 0.9 }, true],
    [{ waiting: 0, kvUsage: 0.5 }, false],
  ];
  for (const [load, isOn] of steps) {
    say(load);
    expect([load, overloaded()]).toEqual([load, isOn]);
  }
});

test("what an engine does not say, or said more than 5 s ago, is not full", () => {
  const { say, overloaded } = one();
  expect(overloaded()).toBe(false);
  say({});
  expect(overloaded()).toBe(false);
  say({ waiting: 100 });
  expect([overloaded(T0 + 5000), overloaded(T0 + 5001)]).toEqual([true, false]);
});

test("an overloaded engine loses only while another is free", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  reportLoads(a.worker, [{ engine: "1", sampleAgeMs: 0, waiting: 50 }], T0);
  const catalog = createCatalogReader(state);
  const take = () => {
    const at = { now: T0, random: () => 0 };
    const grant = acquire({ state, catalog: catalog(), router }, request("m"), at);
    if (!grant.granted) throw new Error(grant.message);
    return grant.lease;
  };
  for (let i = 0; i < 5; i += 1) expect(take().workerName).toBe("b");
  reportLoads(b.worker, [{ engine: "1", sampleAgeMs: 0, waiting: 50 }], T0);
  // Now nobody is free, and the load decides.
  expect(take().workerName).toBe("a");
});

test("an engine without room is not asked for a second, or for as long as it says", () => {
  const { state, engine } = one();
  const catalog = createCatalogReader(state);
  const ask = (now: number) =>
    acquire({ state, catalog: catalog(), router }, request("m"), { now, random: () => 0 });
  const first = ask(T0);
  if (!first.granted) throw new Error(first.message);
  giveBack(state, first.lease, { outcome: "busy" });
  expect([isBusy(engine, T0 + 999), isBusy(engine, T0 + 1000)]).toEqual([true, false]);
  expect(ask(T0 + 999)).toMatchObject({ granted: false, waits: true, code: "no_ready_replica" });
  const second = ask(T0 + 1000);
  if (!second.granted) throw new Error(second.message);
  giveBack(state, second.lease, { outcome: "busy", retryAfterMs: 7000 });
  expect([ask(T0 + 6999).granted, ask(T0 + 7000).granted]).toEqual([false, true]);
});

test("what an engine runs beyond our own requests is foreign", () => {
  const { state, engine, say } = one();
  expect(foreignLoad(state, engine, T0)).toBe(0);
  say({ running: 3, waiting: 2 });
  expect(foreignLoad(state, engine, T0)).toBe(5);
  engine.inFlight = 2;
  expect(foreignLoad(state, engine, T0)).toBe(3);
  expect(foreignLoad(state, engine, T0 + 6000)).toBe(0);
});

test("our own requests that have just ended are not foreign: the figures are old", () => {
  const { state, engine, say } = one();
  const catalog = createCatalogReader(state);
  const leases = Array.from({ length: 4 }, () => {
    const at = { now: T0, random: () => 0 };
    const grant = acquire({ state, catalog: catalog(), router }, request("m"), at);
    if (!grant.granted) throw new Error(grant.message);
    return grant.lease;
  });
  for (const lease of leases) giveBack(state, lease);
  say({ running: 4 });
  expect(foreignLoad(state, engine, T0)).toBe(0);
  say({ running: 4 });
  say({ running: 4 });
  expect(foreignLoad(state, engine, T0)).toBe(4);
});
