import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { reportLoads } from "../../../src/cluster/state/load.ts";
import { reportEngine, reportModels } from "../../../src/cluster/state/registry.ts";
import { modelRows } from "../../../src/cluster/rows/models.ts";
import { workerDetails } from "../../../src/cluster/rows/workers.ts";
import { leaveSuspect, stallTick } from "../../../src/cluster/dispatch/stall.ts";
import type { ClusterState, Engine, Lease, Worker } from "../../../src/cluster/state/state.ts";
import type { EngineLoad } from "../../../src/protocol/messages.ts";
import { addWorker, cluster, report, T0, request, rowContext } from "../fixtures.ts";

interface Place {
  state: ClusterState;
  worker: Worker;
  engine: Engine;
}

function place(id = "a", state = cluster()): Place {
  const { worker, engine } = addWorker(state, id, { models: ["m"] });
  // It has been there for long.
  worker.stateSince = T0 - 1e6;
  return { state, worker, engine };
}

/** A request that was sent at T0. */
function send({ state, worker, engine }: Place, more: Partial<Lease> = {}): Lease {
  const lease: Lease = {
    id: state.nextLease,
    workerId: worker.id,
    workerName: worker.name,
    workerRun: worker.run,
    engineKey: engine.key,
    engineRun: engine.report.run,
    engineKind: engine.report.kind,
    model: "m",
    url: null,
    engineNumber: engine.number,
    apiKey: null,
    hostHeader: null,
    maxModelLen: null,
    grantedAt: T0,
    promptTokens: 0,
    missTokens: 0,
    explanation: null,
    started: false,
    progressAt: T0,
    reading: true,
    readingSince: T0,
    rescheduled: false,
    request: request("m", { stream: true }),
    ...more,
  } as Lease;
  state.nextLease += 1;
  state.leases.set(lease.id, lease);
  return lease;
}

function say({ worker }: Place, at: number, figures: Partial<EngineLoad>): void {
  reportLoads(worker, [{ engine: "1", sampleAgeMs: 0, ...figures }], at);
}

/** When it becomes suspect, in ms after T0, by ticks of a second; null: not within five minutes. */
function suspectAfter(at: Place, each: (ms: number) => void = () => undefined): number | null {
  for (let ms = 0; ms <= 300_000; ms += 1000) {
    each(ms);
    stallTick(at.state, T0 + ms);
    if (at.engine.suspect) return ms;
  }
  return null;
}

test("a stream out of which nothing comes for 20 s makes its engine suspect", () => {
  const at = place();
  send(at);
  stallTick(at.state, T0 + 19_999);
  expect(at.engine.suspect).toBeNull();
  const { suspicions, examinations } = stallTick(at.state, T0 + 20_000);
  expect(suspicions).toMatchObject([
    { isSuspect: true, reason: "no output for 20s, with 1 request waiting" },
  ]);
  expect(examinations).toMatchObject([{ inspect: true, ask: true }]);
  expect(stallTick(at.state, T0 + 20_250).suspicions).toEqual([]);
});

test("an engine without requests is not suspect", () => {
  expect(suspectAfter(place())).toBeNull();
});

test("a started stream counts like one that waits for its first byte", () => {
  const at = place();
  send(at, { started: true, progressAt: T0 + 5000 });
  expect(suspectAfter(at)).toBe(25_000);
});

test("progress of any request counts for all", () => {
  const at = place();
  send(at);
  const other = send(at, { started: true });
  const live = (ms: number) => {
    if (ms <= 60_000) other.progressAt = T0 + ms;
  };
  expect(suspectAfter(at, live)).toBe(80_000);
});

test("what a request brought that has ended since counts too", () => {
  const at = place();
  send(at);
  at.engine.progressAt = T0 + 10_000;
  expect(suspectAfter(at)).toBe(30_000);
});

test("new requests do not hide that old ones get nothing", () => {
  const at = place();
  send(at);
  const arrive = (ms: number) => {
    send(at, { grantedAt: T0 + ms, progressAt: T0 + ms, readingSince: T0 + ms });
    say(at, T0 + ms, { running: 1, waiting: ms / 1000, flow: 7 });
  };
  expect(suspectAfter(at, arrive)).toBe(20_000);
});

test("a slow client's time does not count, nor does it hide another's silence", () => {
  const at = place();
  const slow = send(at, { started: true, reading: false });
  expect(suspectAfter(at)).toBeNull();
  // From when it takes something again the engine's silence counts.
  slow.reading = true;
  stallTick(at.state, T0 + 319_999);
  expect(at.engine.suspect).toBeNull();
  stallTick(at.state, T0 + 320_000);
  expect(at.engine.suspect).not.toBeNull();
  const both = place();
  send(both, { reading: false });
  send(both);
  expect(suspectAfter(both)).toBe(20_000);
});

test.each<[string, Partial<EngineLoad>]>([
  ["flow", { flow: 1 }],
  ["the cache", { kvUsage: 0.01 }],
  ["prefix queries", { prefixQueryTokens: 100 }],
])("an engine whose own figures move is not suspect: %s", (_, figures) => {
  const at = place();
  send(at);
  const [[name = "flow", step = 0] = []] = Object.entries(figures) as [keyof EngineLoad, number][];
  const move = (ms: number) => {
    if (ms <= 60_000) say(at, T0 + ms, { [name]: step * (ms / 1000) });
  };
  expect(suspectAfter(at, move)).toBe(80_000);
});

test("figures of what waits and runs tell nothing: requests arrive at a dead engine too", () => {
  const at = place();
  send(at);
  expect(suspectAfter(at, (ms) => say(at, T0 + ms, { running: ms, waiting: ms }))).toBe(20_000);
});

test("a request that is no stream is silent by nature", () => {
  const at = place();
  send(at, { request: request("m") });
  expect(suspectAfter(at)).toBeNull();
  // What it may be is looked at all the same: a stopped process is one for certain.
  const { examinations } = stallTick(at.state, T0 + 301_000);
  expect(examinations).toMatchObject([{ inspect: true, ask: false }]);
});

test("its engine's own figures tell all the same, if they move with every token", () => {
  const still = place();
  send(still, { request: request("m") });
  expect(suspectAfter(still, (ms) => say(still, T0 + ms, { flow: 7 }))).toBe(20_000);
  const moving = place();
  send(moving, { request: request("m") });
  expect(suspectAfter(moving, (ms) => say(moving, T0 + ms, { flow: ms }))).toBeNull();
  const others = place();
  send(others, { request: request("m") });
  expect(suspectAfter(others, (ms) => say(others, T0 + ms, { kvUsage: 0.5 }))).toBeNull();
});

test("figures that are too old are unknown", () => {
  const at = place();
  send(at, { request: request("m") });
  say(at, T0, { flow: 7 });
  expect(suspectAfter(at)).toBeNull();
});

test("an engine whose health probes fail as well is suspect for any request", () => {
  const at = place();
  send(at, { request: request("m") });
  at.engine.report.state = "unhealthy";
  expect(suspectAfter(at)).toBe(20_000);
});

test("a long prefill has its time: twice what the engine should take", () => {
  const at = place();
  send(at, { missTokens: 150_000 });
  at.engine.pendingTokens = 150_000;
  expect(suspectAfter(at)).toBe(40_000);
  const slow = place();
  send(slow);
  slow.engine.pendingTokens = 30_000;
  slow.engine.prefillRate = 1000;
  expect(suspectAfter(slow)).toBe(80_000);
});

test("so has the load of a model that is not in memory", () => {
  const at = place();
  send(at);
  const [card] = at.engine.models;
  if (!card) throw new Error("no model");
  card.loaded = false;
  expect(suspectAfter(at)).toBeNull();
  card.loaded = true;
  stallTick(at.state, T0 + 300_000);
  expect(at.engine.suspect).not.toBeNull();
});

test("what waited for a load waits for its engine from the end of the load on", () => {
  const at = place();
  send(at);
  const list = (revision: number, isLoaded: boolean) => ({
    engine: "1",
    revision,
    run: "",
    models: [{ id: "m", parent: "", card: "", loaded: isLoaded }],
    more: false,
  });
  const { state, worker, engine } = at;
  reportModels(state, { worker, list: list(100, false) }, T0);
  stallTick(state, T0 + 100_000);
  reportModels(state, { worker, list: list(101, true) }, T0 + 100_000);
  stallTick(state, T0 + 119_000);
  expect(engine.suspect).toBeNull();
  // The same list again is no progress.
  reportModels(state, { worker, list: list(102, true) }, T0 + 119_000);
  stallTick(state, T0 + 120_000);
  expect(engine.suspect?.since).toBe(T0 + 100_000);
});

test("a worker that is not heard says nothing about its engine; neither does its absence", () => {
  const at = place();
  send(at);
  at.worker.state = "stale";
  expect(suspectAfter(at)).toBeNull();
  at.worker.state = "ready";
  at.worker.stateSince = T0 + 300_000;
  stallTick(at.state, T0 + 319_000);
  expect(at.engine.suspect).toBeNull();
  stallTick(at.state, T0 + 320_000);
  expect(at.engine.suspect).not.toBeNull();
});

test("services answer as they like, and an engine that starts has not stalled", () => {
  const service = place();
  send(service, { request: request("m", { service: "s", stream: true }) });
  expect(suspectAfter(service)).toBeNull();
  const starting = place();
  send(starting);
  starting.engine.report.state = "starting";
  expect(suspectAfter(starting)).toBeNull();
});

test("requests of an earlier run do not count for the present one", () => {
  const at = place();
  send(at, { engineRun: "earlier" });
  expect(suspectAfter(at)).toBeNull();
});

test("the worker asks for a token a while before the limit, so that it knows sooner", () => {
  const at = place();
  send(at);
  expect(stallTick(at.state, T0 + 9999).examinations).toEqual([]);
  expect(stallTick(at.state, T0 + 10_000).examinations).toMatchObject([
    { inspect: false, ask: true },
  ]);
  expect(at.engine.suspect).toBeNull();
});

test("progress of any request ends it", () => {
  const at = place();
  const first = send(at, { started: true });
  send(at);
  expect(suspectAfter(at)).toBe(20_000);
  first.progressAt = T0 + 21_000;
  const { suspicions, examinations } = stallTick(at.state, T0 + 21_000);
  expect(suspicions).toMatchObject([{ isSuspect: false, reason: "it produces tokens again" }]);
  expect(examinations).toEqual([]);
  expect(at.engine.suspect).toBeNull();
});

test("so do its own figures, a token that its worker got, another state and another run", () => {
  const ends: ((at: Place, now: number) => void)[] = [
    (at, now) => {
      say(at, now - 10, { flow: 1 });
      say(at, now, { flow: 2 });
    },
    (at, now) => {
      say(at, now - 10, { failedGenerations: 1 });
      say(at, now, { failedGenerations: 0 });
    },
    (at, now) => {
      at.engine.report.state = "backoff";
      stallTick(at.state, now);
    },
    (at, now) =>
      void reportEngine(at.state, { worker: at.worker, report: report({ run: "next" }) }, now),
  ];
  for (const end of ends) {
    const at = place();
    send(at);
    expect(suspectAfter(at)).toBe(20_000);
    end(at, T0 + 22_000);
    stallTick(at.state, T0 + 22_000);
    expect(at.engine.suspect).toBeNull();
  }
});

test("a token for its worker ends the suspicion once; later silence is suspect again", () => {
  const at = place();
  send(at);
  expect(suspectAfter(at)).toBe(20_000);
  // The engine's own figures may be older than that.
  say(at, T0 + 21_000, { failedGenerations: 0, flow: 7, sampleAgeMs: 9000 });
  stallTick(at.state, T0 + 21_000);
  expect(at.engine.suspect).toBeNull();
  say(at, T0 + 23_000, { failedGenerations: 0 });
  stallTick(at.state, T0 + 41_000);
  expect(at.engine.suspect).not.toBeNull();
});

test("it lasts when all requests have been taken away, for as long as its worker asks in vain", () => {
  const at = place();
  const lease = send(at);
  expect(suspectAfter(at)).toBe(20_000);
  at.state.leases.delete(lease.id);
  stallTick(at.state, T0 + 79_000);
  expect(at.engine.suspect).not.toBeNull();
  say(at, T0 + 79_000, { failedGenerations: 1 });
  stallTick(at.state, T0 + 99_000);
  expect(at.engine.suspect).not.toBeNull();
  // Nobody asks it any more: only a request can tell.
  say(at, T0 + 99_500, {});
  expect(stallTick(at.state, T0 + 100_000).suspicions).toMatchObject([{ isSuspect: false }]);
  expect(at.engine.suspect).toBeNull();
});

test("every interval is a setting", () => {
  const state = cluster({ stallAfterMs: 200, examineAheadMs: 100, suspectForgetMs: 50 });
  const at = place("a", state);
  const lease = send(at);
  expect(stallTick(state, T0 + 100).examinations).toHaveLength(1);
  stallTick(state, T0 + 200);
  expect(at.engine.suspect).not.toBeNull();
  state.leases.delete(lease.id);
  stallTick(state, T0 + 250);
  expect(at.engine.suspect).toBeNull();
});

test("a request leaves for a suspicion once", () => {
  const state = cluster();
  const a = place("a", state);
  const b = place("b", state);
  const lease = send(a);
  expect(leaveSuspect(state, lease, T0)).toBeNull();
  expect(suspectAfter(a)).toBe(20_000);
  expect(leaveSuspect(state, lease, T0 + 20_000)).toContain("no output for 20s");
  state.leases.delete(lease.id);
  const again = send(b, {
    grantedAt: T0 + 20_000,
    progressAt: T0 + 20_000,
    readingSince: T0 + 20_000,
    request: request("m", { stream: true, exclude: [a.engine.key] }),
  });
  stallTick(state, T0 + 40_000);
  expect(b.engine.suspect).not.toBeNull();
  expect(leaveSuspect(state, again, T0 + 40_000)).toBeNull();
  // One that came to the second engine in another way may still leave it.
  const failed = send(b, { request: request("m", { exclude: [a.engine.key] }), grantedAt: T0 - 1 });
  expect(leaveSuspect(state, failed, T0 + 40_000)).not.toBeNull();
});

test("people see it, and new requests go elsewhere", () => {
  const at = place();
  send(at);
  const read = createCatalogReader(at.state);
  expect(read().get("m")).toMatchObject([{ state: "ready" }]);
  stallTick(at.state, T0 + 20_000);
  expect(read().get("m")).toMatchObject([{ state: "excluded" }]);
  const context = rowContext(at.state);
  const reason = "no output for 20s, with 1 request waiting";
  expect(workerDetails(context).toArray()[0]?.engines[0]).toMatchObject({
    state: "suspect",
    reason,
  });
  expect([...modelRows(context)]).toMatchObject([{ name: "m", ready: 0, replicas: 1 }]);
});

test("restarts are counted by the word for why the engine had ended", () => {
  const { state, worker, engine } = place();
  const say = (restarts: number, failure = "") =>
    reportEngine(state, { worker, report: report({ restarts, failure }) }, T0);
  say(0, "stalled");
  say(1, "stalled");
  say(1);
  say(3, "gpu_oom");
  // A new life of the supervisor counts anew.
  say(0);
  say(1);
  expect(Object.fromEntries(engine.restartReasons)).toEqual({
    crash: 0,
    stalled: 1,
    gpu_oom: 2,
    unknown: 1,
  });
  for (let i = 0; i < 100; i += 1) say(2 + i, `word-${i}`);
  expect(engine.restartReasons.size).toBeLessThanOrEqual(33);
  expect(engine.restartReasons.get("other")).toBe(72);
});
