import { expect, test } from "bun:test";
import { loadOf, reportLoads } from "../../../src/cluster/state/load.ts";
import { reportEngine } from "../../../src/cluster/state/registry.ts";
import { workerDetails } from "../../../src/cluster/rows/workers.ts";
import { addWorker, cluster, report, T0, rowContext } from "../fixtures.ts";

test("what an engine says holds for 5 s from when it said so; unknown is null, never 0", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  expect(loadOf(state, engine, T0)).toBeNull();
  reportLoads(worker, [{ engine: "1", running: 2, kvUsage: 0, sampleAgeMs: 1000 }], T0);
  const load = {
    running: 2,
    waiting: null,
    kvUsage: 0,
    prefixHitTokens: null,
    prefixQueryTokens: null,
    flow: null,
    failedGenerations: null,
    sampledAt: T0 - 1000,
  };
  expect(loadOf(state, engine, T0)).toEqual(load);
  expect(loadOf(state, engine, T0 + 4000)).toEqual(load);
  expect(loadOf(state, engine, T0 + 4001)).toBeNull();
});

test("with slower heartbeats it holds longer", () => {
  const state = cluster({ heartbeatWorkers: 1 });
  const { worker, engine } = addWorker(state, "a", { models: [] });
  addWorker(state, "b", { models: [] });
  reportLoads(worker, [{ engine: "1", running: 2, sampleAgeMs: 0 }], T0);
  expect(loadOf(state, engine, T0 + 10_000)).not.toBeNull();
  expect(loadOf(state, engine, T0 + 10_001)).toBeNull();
});

test("engines that were not announced and figures that cannot be are passed over", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: [] });
  const odd = { running: Number.NaN, waiting: -1, kvUsage: 7, prefixHitTokens: Infinity };
  reportLoads(
    worker,
    [
      { engine: "2", running: 1, sampleAgeMs: 0 },
      { engine: "__proto__", running: 1, sampleAgeMs: 0 },
      { engine: "1", ...odd, sampleAgeMs: Number.NaN },
    ],
    T0,
  );
  expect(worker.engines.size).toBe(1);
  expect(loadOf(state, engine, T0)).toMatchObject({
    running: null,
    waiting: null,
    kvUsage: 1,
    prefixHitTokens: null,
    sampledAt: T0,
  });
});

test("another run of the engine begins with nothing known; the status shows all of it", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const say = (run: string) =>
    reportEngine(
      state,
      { worker, report: report({ run, maxInFlight: 320, gpusWanted: 2, hostHeader: "h:1" }) },
      T0,
    );
  say("one");
  reportLoads(worker, [{ engine: "1", running: 2, sampleAgeMs: 0 }], T0);
  say("one");
  const shown = () => workerDetails(rowContext(state, { now: T0 + 10 })).toArray()[0]?.engines[0];
  expect(engine.report.hostHeader).toBe("h:1");
  expect(shown()).toMatchObject({
    max_in_flight: 320,
    gpus_wanted: 2,
    running: 2,
    queue: null,
    kv_pct: null,
    prefix_hit_tokens: null,
    load_age_ms: 10,
  });
  say("two");
  expect(shown()).toMatchObject({ max_in_flight: 320, running: null, load_age_ms: null });
  reportEngine(state, { worker, report: report({ run: "two" }) }, T0);
  expect(shown()).toMatchObject({ max_in_flight: null, gpus_wanted: null });
});

test("a host name that would break out of its header is not taken", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: [] });
  const cases: [string, string | null][] = [
    ["127.0.0.1:11434", "127.0.0.1:11434"],
    ["[::1]:11434", "[::1]:11434"],
    ["ollama.local", "ollama.local"],
    ["", null],
    ["a b", null],
    ["a\r\nx: 1", null],
    ["x".repeat(400), null],
  ];
  for (const [hostHeader, expected] of cases) {
    reportEngine(state, { worker, report: report({ hostHeader }) }, T0);
    expect(engine.report.hostHeader).toBe(expected);
  }
});
