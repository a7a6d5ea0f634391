import { expect, test } from "bun:test";
import { BREAKER_LIMITS } from "../../../src/cluster/faults/breaker.ts";
import { effectiveState } from "../../../src/cluster/state/candidates.ts";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire, type Grant, started } from "../../../src/cluster/dispatch/dispatch.ts";
import { waitDecision } from "../../../src/cluster/dispatch/explain.ts";
import { reportEngine, setRoute } from "../../../src/cluster/state/registry.ts";
import type { ClusterState, Lease, Worker } from "../../../src/cluster/state/state.ts";
import type { LeaseOutcome, ReplicaRequest } from "../../../src/protocol/replica-request.ts";
import type { WireEngineReport } from "../../../src/protocol/engine-report.ts";
import {
  addWorker,
  cluster,
  giveBack,
  report,
  router,
  setModels,
  T0,
  request,
} from "../fixtures.ts";

const LATER = T0 + 3_700_000;

function asker(state: ClusterState) {
  const catalog = createCatalogReader(state);
  return (model: string, more: Partial<ReplicaRequest> & { now?: number } = {}): Grant => {
    const { now = LATER, ...rest } = more;
    const context = { state, catalog: catalog(), router };
    return acquire(context, request(model, rest), { now, random: () => 0 });
  };
}

function lookAhead(state: ClusterState, now: number, more: Partial<ReplicaRequest> = {}) {
  const catalog = createCatalogReader(state)();
  return waitDecision({ state, catalog }, request("m", more), now);
}

function held(grant: Grant): Lease {
  if (!grant.granted) throw new Error(grant.message);
  return grant.lease;
}

function say(state: ClusterState, worker: Worker, more: Partial<WireEngineReport>, now = LATER) {
  const change = reportEngine(state, { worker, report: report({ pid: 7, ...more }) }, now);
  if (!change) throw new Error("no engine");
  return change.engine;
}

/** Sends a request to each worker of the model that is asked, with this end. */
function fail(
  state: ClusterState,
  times: number,
  outcome: LeaseOutcome,
  more: Partial<ReplicaRequest> = {},
) {
  const ask = asker(state);
  for (let i = 0; i < times; i += 1) {
    giveBack(state, held(ask("m", { now: T0, ...more })), { outcome });
  }
}

test("an engine has no more requests at once than it should have", () => {
  const state = cluster();
  const { engine } = addWorker(state, "a", { models: ["m"] });
  engine.report.maxInFlight = 2;
  const ask = asker(state);
  const first = held(ask("m"));
  held(ask("m"));
  expect(ask("m")).toMatchObject({
    granted: false,
    waits: true,
    code: "no_ready_replica",
    message: 'No replica of the model "m" can answer now: busy.',
  });
  giveBack(state, first);
  expect(ask("m").granted).toBe(true);
});

test("without a word of it 256", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  const ask = asker(state);
  for (let i = 0; i < 256; i += 1) held(ask("m"));
  expect(ask("m").granted).toBe(false);
});

test("a replica whose context is too short comes last, and is not refused", () => {
  const state = cluster();
  const short = addWorker(state, "a", { models: ["m"] });
  const long = addWorker(state, "b", { models: ["m"] });
  for (const [{ engine }, length] of [
    [short, 1000],
    [long, 8000],
  ] as const) {
    engine.models = [{ id: "m", parent: null, maxModelLen: length, loaded: null, extra: {} }];
  }
  state.revision += 1;
  const prompt = (bytes: number, maxTokens: number | null) => ({
    prompt: { bytes, maxTokens, hashes: new Uint32Array(), ends: new Uint32Array() },
  });
  const ask = asker(state);
  for (let i = 0; i < 3; i += 1) {
    expect(held(ask("m", prompt(2000, 1000))).workerName).toBe("b");
  }
  long.engine.report.maxInFlight = 3;
  expect(held(ask("m", prompt(2000, 1000))).workerName).toBe("a");
  expect(held(ask("m", prompt(2000, null))).workerName).toBe("a");
});

test("a fallback is taken where no replica of the model is there, the first that is free", () => {
  const state = cluster();
  const m = addWorker(state, "a", { models: ["m"] });
  const n = addWorker(state, "b", { models: ["n"] });
  addWorker(state, "c", { models: ["o"] });
  const ask = asker(state);
  const fallbacks = ["n", "o"];
  expect(held(ask("m", { fallbacks })).model).toBe("m");
  // One that is busy is waited for.
  m.engine.report.maxInFlight = 1;
  expect(ask("m", { fallbacks })).toMatchObject({ granted: false, waits: true });
  expect(held(ask("m", { fallbacks, exclude: [m.engine.key] })).model).toBe("n");
  say(state, m.worker, { run: m.engine.report.run, state: "BACKOFF" });
  expect(held(ask("m", { fallbacks })).model).toBe("n");
  n.engine.report.maxInFlight = 1;
  expect(held(ask("m", { fallbacks })).model).toBe("o");
  expect(held(ask("never", { fallbacks })).model).toBe("o");
  expect(ask("never", { fallbacks: ["nor this"] })).toMatchObject({
    waits: false,
    code: "model_not_found",
  });
});

test("an engine that refuses its key gets nothing more, until it is another one", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const ask = asker(state);
  giveBack(state, held(ask("m")), { outcome: "auth" });
  expect(ask("m")).toMatchObject({ granted: false, waits: false, code: "upstream_auth" });
  const [replica] = createCatalogReader(state)().get("m") ?? [];
  expect(replica?.state).toBe("excluded");
  say(state, worker, { run: "another" });
  setRoute(state, engine, { via: "lane" });
  expect(ask("m").granted).toBe(true);
});

test("an engine that breaks its connections is left alone, and tried again after 5 s", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  fail(state, 5, "broken", { exclude: [b.engine.key] });
  expect(a.engine.breaker.state).toBe("open");
  const ask = asker(state);
  for (let i = 0; i < 20; i += 1) expect(held(ask("m", { now: T0 + 4999 })).workerName).toBe("b");
  const [replica] = createCatalogReader(state)().get("m") ?? [];
  if (replica) expect(effectiveState(state, replica, T0).state).toBe("excluded");
  // The other has more to do: here is the one request that is let through.
  const probe = held(ask("m", { now: T0 + 5000 }));
  expect(probe.workerName).toBe("a");
  expect(held(ask("m", { now: T0 + 5000 })).workerName).toBe("b");
  started({ state, router }, probe, T0 + 5100);
  expect(held(ask("m", { now: T0 + 5100 })).workerName).toBe("a");
});

test("500 never opens it, 502 does", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  fail(state, 50, "engine_error", { exclude: [b.engine.key] });
  expect(a.engine.breaker.state).toBe("closed");
  fail(state, 5, "bad_gateway", { exclude: [b.engine.key] });
  // Answers before do not help against five in a row.
  expect(a.engine.breaker.state).toBe("open");
});

test("at most half of a model's replicas are open, and never the last one", () => {
  const state = cluster({ breaker: { ...BREAKER_LIMITS, failures: 1 } });
  const all = ["a", "b", "c"].map((id) => addWorker(state, id, { models: ["m"] }));
  for (const { engine } of all) {
    const others = all.filter((other) => other.engine !== engine);
    fail(state, 1, "broken", { exclude: others.map((other) => other.engine.key) });
  }
  expect(all.map(({ engine }) => engine.breaker.state)).toEqual(["open", "closed", "closed"]);
  const alone = cluster({ breaker: { ...BREAKER_LIMITS, failures: 1 } });
  const last = addWorker(alone, "a", { models: ["m"] });
  fail(alone, 100, "unreachable");
  expect(last.engine.breaker.state).toBe("closed");
});

test("an open one is asked all the same once it is the only one left", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  fail(state, 5, "broken", { exclude: [b.engine.key] });
  say(state, b.worker, { run: b.engine.report.run, state: "STOPPING" });
  expect(held(asker(state)("m", { now: T0 + 1 })).engineKey).toBe(a.engine.key);
});

test("a process that ended opens it at once, the next one that is ready closes it", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  say(state, worker, { run: engine.report.run });
  say(state, worker, { run: engine.report.run, state: "BACKOFF", pid: 0 });
  expect(engine.breaker.state).toBe("open");
  say(state, worker, { run: "next", state: "STARTING" });
  expect(engine.breaker.state).toBe("open");
  say(state, worker, { run: "next", state: "READY" });
  expect(engine.breaker.state).toBe("closed");
});

test("one that its worker gave up as stalled has ended, but not of a request", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  say(state, worker, { run: engine.report.run });
  say(state, worker, { run: engine.report.run, state: "BACKOFF", failure: "stalled", pid: 0 });
  expect([state.endedRuns.has(engine.report.run), state.poison.crashes.size]).toEqual([true, 0]);
});

test("an engine that was stopped on purpose has not crashed", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  say(state, worker, { run: engine.report.run });
  say(state, worker, { run: engine.report.run, state: "STOPPING" });
  say(state, worker, { run: engine.report.run, state: "STOPPED", pid: 0 });
  say(state, worker, { run: "next", state: "STARTING" });
  expect([engine.breaker.state, state.poison.crashes.size]).toEqual(["closed", 0]);
});

test("a body that has ended two engines is refused, whatever the model's replicas", () => {
  const state = cluster();
  const ask = asker(state);
  for (const id of ["a", "b", "c"]) {
    const { worker, engine } = addWorker(state, id, { models: ["m"] });
    say(state, worker, { run: engine.report.run }, T0);
    setRoute(state, engine, { via: "lane" });
    const grant = ask("m", { now: T0, bodyHash: "deadly" });
    if (id === "c") {
      expect(grant).toMatchObject({ granted: false, waits: false, code: "engine_crashed" });
      continue;
    }
    const lease = held(grant);
    started({ state, router }, lease, T0);
    giveBack(state, lease, { outcome: "broken" });
    say(state, worker, { run: engine.report.run, state: "BACKOFF", pid: 0 }, T0 + 500);
  }
  expect(state.poison.killers).toEqual([{ hash: "deadly", deaths: 2 }]);
  expect(ask("m", { now: T0 + 600, bodyHash: "harmless" }).granted).toBe(true);
  expect(ask("m", { now: T0 + 600_501, bodyHash: "deadly" }).granted).toBe(true);
});

test("an attached engine, whose process nobody knows, never counts as dead", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const lease = held(asker(state)("m", { bodyHash: "h" }));
  expect(lease.hasProcess).toBe(false);
  giveBack(state, lease, { outcome: "broken" });
  say(state, worker, { run: "other", pid: 0 }, T0);
  expect([state.poison.crashes.size, engine.breaker.state]).toEqual([0, "closed"]);
});

test("a wait takes a minute, for an engine that starts its usual time longer", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  engine.report.maxInFlight = 0;
  const untilOf = (now: number) => {
    const ahead = lookAhead(state, now);
    return ahead.waits ? ahead.until(now) - now : null;
  };
  expect(untilOf(LATER)).toBe(60_000);
  say(state, worker, { run: engine.report.run, state: "STARTING", expectedModels: ["m"] });
  expect(untilOf(LATER)).toBe(60_000);
  // It gets on: a minute from there.
  say(
    state,
    worker,
    { run: engine.report.run, state: "STARTING", phase: "load 10%" },
    LATER + 50_000,
  );
  expect(untilOf(LATER)).toBe(110_000);
  // But not for ever.
  say(
    state,
    worker,
    { run: engine.report.run, state: "STARTING", phase: "load 11%" },
    LATER + 9_999_999,
  );
  expect(untilOf(LATER)).toBe(1_800_000);
});

test("how long a model takes is learnt, and told to who is sent away", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  const start: Partial<WireEngineReport> = {
    state: "STARTING",
    expectedModels: ["m"],
    phase: "load",
  };
  say(state, worker, { ...start, run: "r1" }, LATER);
  say(state, worker, { expectedModels: ["m"], run: "r1" }, LATER + 600_000);
  expect([engine.loadMs, state.loadTimes.get("m")]).toEqual([600_000, 600_000]);
  const again = LATER + 1_000_000;
  say(state, worker, { ...start, run: "r2" }, again);
  const ahead = lookAhead(state, again);
  expect(ahead.waits && ahead.until(again) - again).toBe(660_000);
  expect(asker(state)("m", { now: again + 590_000 })).toMatchObject({
    message: 'No replica of the model "m" can answer now: starting (load) for 9m50s.',
    retryAfterMs: 10_000,
  });
  // Another worker that starts it takes as long.
  const other = addWorker(state, "b", { models: [] });
  say(state, other.worker, { ...start, run: "r3" }, again);
  expect(other.engine.loadMs).toBeNull();
  say(state, worker, { run: "r2", state: "FAILED" }, again);
  const elsewhere = lookAhead(state, again);
  expect(elsewhere.waits && elsewhere.until(again) - again).toBe(660_000);
});

test("nobody waits for what cannot come", () => {
  const state = cluster();
  const ask = asker(state);
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  say(state, worker, { run: engine.report.run, service: "" });
  const cases: [string, Partial<ReplicaRequest>, Partial<Grant>][] = [
    ["never", {}, { code: "model_not_found" }],
    ["m", { kinds: ["tei"] }, { code: "unknown_url" }],
    ["m", { exclude: [engine.key] }, { code: "no_ready_replica" }],
    ["m", { worker: "nobody" }, { code: "not_found" }],
    ["m", { engineRun: "long gone" }, { code: "not_found" }],
    ["m", { minContext: 100 }, { code: "no_ready_replica" }],
    ["m", { model: null, service: "tts" }, { code: "not_found" }],
  ];
  for (const [model, more, refusal] of cases) {
    const grant = ask(model, more);
    expect([more, grant]).toEqual([more, expect.objectContaining({ waits: false, ...refusal })]);
  }
  say(state, worker, { run: engine.report.run, state: "FAILED", reason: "out of memory" });
  setModels(state, worker, { models: ["m"], now: LATER });
  expect(ask("m")).toMatchObject({ waits: false, code: "no_ready_replica" });
});

test("what may come back is waited for: a model of the last hour, a pinned worker, a service", () => {
  const state = cluster();
  const ask = asker(state);
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  say(state, worker, { run: engine.report.run, state: "READY" });
  setModels(state, worker, { models: [], now: LATER });
  expect(ask("m")).toMatchObject({ waits: true, code: "no_ready_replica" });
  worker.state = "lost";
  state.revision += 1;
  expect(ask("m", { worker: "a" })).toMatchObject({ waits: true });
  engine.report.service = "tts";
  state.revision += 1;
  expect(ask("m", { model: null, service: "tts" })).toMatchObject({
    waits: true,
    code: "no_ready_replica",
  });
});
