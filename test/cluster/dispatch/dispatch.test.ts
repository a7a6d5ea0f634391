import { expect, test } from "bun:test";
import fc from "fast-check";
import { buildCatalog, createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire, type Grant, started } from "../../../src/cluster/dispatch/dispatch.ts";
import { updateLiveness, tick } from "../../../src/cluster/liveness/liveness.ts";
import { reschedules } from "../../../src/cluster/dispatch/reschedules.ts";
import {
  disconnect,
  goodbye,
  heard,
  reportEngine,
  setRoute,
} from "../../../src/cluster/state/registry.ts";
import { type ClusterState, type Lease } from "../../../src/cluster/state/state.ts";
import type { WireEngineReport } from "../../../src/protocol/engine-report.ts";
import { modelRows } from "../../../src/cluster/rows/models.ts";
import { workerDetails } from "../../../src/cluster/rows/workers.ts";
import type { ReplicaRequest } from "../../../src/protocol/replica-request.ts";
import {
  accepted,
  addWorker,
  cluster,
  giveBack,
  hello,
  report,
  router,
  setModels,
  T0,
  tryJoin,
  request,
  rowContext,
} from "../fixtures.ts";

function asker(state: ClusterState, random: () => number = Math.random) {
  const catalog = createCatalogReader(state);
  return (model: string, more: Partial<ReplicaRequest> & { now?: number } = {}): Grant => {
    const { now = T0, ...rest } = more;
    return acquire({ state, catalog: catalog(), router }, request(model, rest), { now, random });
  };
}

function held(grant: Grant): Lease {
  if (!grant.granted) throw new Error(grant.message);
  return grant.lease;
}

test("the least loaded engine gets the request, whatever its other models do", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m", "n"] });
  const b = addWorker(state, "b", { models: ["m"] });
  const ask = asker(state);
  held(ask("n"));
  expect(held(ask("m")).engineKey).toBe(b.engine.key);
  held(ask("m"));
  expect([a.engine.inFlight, b.engine.inFlight].sort()).toEqual([1, 2]);
});

test("ties fall at random and evenly", () => {
  const state = cluster();
  for (const id of ["a", "b", "c"]) addWorker(state, id, { models: ["m"] });
  const ask = asker(state);
  const counts = new Map<string, number>();
  for (let i = 0; i < 3000; i += 1) {
    const lease = held(ask("m"));
    counts.set(lease.workerName, (counts.get(lease.workerName) ?? 0) + 1);
    giveBack(state, lease);
  }
  for (const n of counts.values()) expect(Math.abs(n - 1000)).toBeLessThan(200);
  expect(counts.size).toBe(3);
});

test("excluded, unreachable, starting, draining and stale replicas are not picked", () => {
  const state = cluster();
  const ask = asker(state);
  const a = addWorker(state, "a", { models: ["m"] });
  expect(ask("m", { exclude: [a.engine.key] }).granted).toBe(false);
  setRoute(state, a.engine, { via: "unreachable", reason: "firewall" });
  expect(ask("m")).toMatchObject({ granted: false, code: "no_ready_replica" });
  setRoute(state, a.engine, { via: "direct", url: "http://a" });
  reportEngine(state, { worker: a.worker, report: report({ state: "UNHEALTHY" }) }, T0);
  expect(ask("m").granted).toBe(false);
  const ready = report({ run: a.engine.report.run });
  reportEngine(state, { worker: a.worker, report: ready }, T0);
  setRoute(state, a.engine, { via: "direct", url: "http://a" });
  expect(ask("m").granted).toBe(true);
  disconnect(state, a.worker);
  updateLiveness(state, a.worker, T0);
  expect(ask("m").granted).toBe(false);
});

test("an unknown state of a newer worker takes no requests", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  reportEngine(state, { worker, report: report({ state: 77 }) }, T0);
  expect(asker(state)("m").granted).toBe(false);
});

test("why there is no replica is said without names or addresses", () => {
  const state = cluster();
  const ask = asker(state);
  const { worker } = accepted(tryJoin(state, hello("secret-host")));
  const phase = {
    state: "STARTING",
    phase: "load 40%",
    expectedModels: ["m"],
  } satisfies Partial<WireEngineReport>;
  reportEngine(state, { worker, report: report(phase) }, T0);
  expect(ask("m", { now: T0 + 60_000 })).toEqual({
    granted: false,
    code: "no_ready_replica",
    message: 'No replica of the model "m" can answer now: starting (load 40%) for 1m00s.',
    retryAfterMs: 1000,
    waits: true,
  });
});

test("after a start an unknown model may be on its way for 30 s, then it does not exist", () => {
  const ask = asker(cluster());
  expect(ask("m", { now: T0 + 29_999 })).toMatchObject({
    code: "no_ready_replica",
    retryAfterMs: 1000,
  });
  expect(ask("m", { now: T0 + 30_000 })).toMatchObject({
    code: "model_not_found",
    retryAfterMs: null,
  });
});

test("a model that has just gone is not unknown", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  setModels(state, worker, { models: [], now: T0 + 60_000 });
  const ask = asker(state);
  expect(ask("m", { now: T0 + 61_000 })).toMatchObject({ code: "no_ready_replica" });
  expect(ask("never", { now: T0 + 61_000 })).toMatchObject({ code: "model_not_found" });
});

test("what must not run twice stays on a silent worker, and fails with a lost one", () => {
  const state = cluster();
  const at = { now: T0, random: () => 0 };
  const workers = ["a", "b"].map((id) => addWorker(state, id, { models: [] }));
  for (const { worker, engine } of workers) {
    const { run } = engine.report;
    reportEngine(state, { worker, report: report({ run, service: "tts" }) }, T0);
    setRoute(state, engine, { via: "lane" });
  }
  const take = (once: boolean) => {
    const { engine } = workers[0] ?? {};
    const context = { state, catalog: buildCatalog(state), router };
    const exclude = workers[1] ? [workers[1].engine.key] : [];
    const asked = { ...request("x"), model: null, service: "tts", once, exclude };
    const grant = acquire(context, asked, at);
    if (!grant.granted) throw new Error(grant.message);
    expect(grant.lease).toMatchObject({ model: "tts", engineKey: engine?.key ?? "" });
    grant.lease.request = { ...grant.lease.request, exclude: [] };
    return grant.lease;
  };
  const twice = take(false);
  const once = take(true);
  const silent = workers[0]?.worker;
  if (silent) silent.state = "stale";
  const found = () =>
    reschedules({ state, catalog: buildCatalog(state) }, T0 + 20_000).map(({ lease, kind }) => [
      lease.id,
      kind,
    ]);
  expect(found()).toEqual([[twice.id, "move"]]);
  if (silent) silent.state = "lost";
  expect(found()).toEqual([[once.id, "fail"]]);
});

test("a lease is released once, and never against a later run of its worker", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const ask = asker(state);
  const [first, second] = [held(ask("m")), held(ask("m"))];
  giveBack(state, first);
  giveBack(state, first);
  expect([a.worker.inFlight, a.engine.inFlight]).toEqual([1, 1]);
  goodbye(state, a.worker, { left: true, reason: "", deadlineMs: 0 });
  accepted(tryJoin(state, hello("a", { run: "run-2" })));
  giveBack(state, second);
  const worker = state.workers.get(a.worker.id);
  expect([worker?.inFlight, state.leases.size]).toEqual([0, 0]);
});

test("status shows workers, engines and models as the schema says", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["m"] });
  const lease = held(asker(state)("m"));
  const b = accepted(tryJoin(state, hello("bbbb", { name: "b" })));
  const phase = {
    state: "STARTING",
    phase: "load 40%",
    expectedModels: ["n"],
  } satisfies Partial<WireEngineReport>;
  reportEngine(state, { worker: b.worker, report: report(phase) }, T0);
  const context = rowContext(state, { now: T0 + 40 });
  const status = { workers: [...workerDetails(context)], models: [...modelRows(context)] };
  const UNKNOWN_ENGINE = {
    phase_ms: null,
    gpus: null,
    gpu_uuids: [],
    failure: null,
    hint: null,
    evidence: [],
    restarts: 0,
    pid: null,
    adopted: false,
    max_in_flight: null,
    gpus_wanted: null,
    running: null,
    load_age_ms: null,
  };
  const UNKNOWN_HARDWARE = { host: null, gpus: [], gpu_problem: null };
  // What further fields hold has tests where it comes from.
  expect(status).toMatchObject({
    workers: [
      {
        ...UNKNOWN_HARDWARE,
        id: a.worker.id,
        name: "a",
        state: "ready",
        reason: null,
        route: "direct",
        seen_ms: 40,
        engines: [
          {
            ...UNKNOWN_ENGINE,
            name: "a/1",
            kind: "vllm",
            state: "ready",
            phase: null,
            reason: null,
            replicas: [{ name: "m", state: "ready", in_flight: 1 }],
          },
        ],
      },
      {
        ...UNKNOWN_HARDWARE,
        id: "worker-bbbb",
        name: "b",
        state: "starting",
        reason: null,
        route: null,
        seen_ms: 40,
        engines: [
          {
            ...UNKNOWN_ENGINE,
            phase_ms: 40,
            name: "b/1",
            kind: "vllm",
            state: "starting",
            phase: "load 40%",
            reason: null,
            replicas: [{ name: "n", state: "starting", in_flight: 0 }],
          },
        ],
      },
    ],
    models: [
      { name: "m", ready: 1, replicas: 1, in_flight: 1 },
      { name: "n", ready: 0, replicas: 1, in_flight: 0 },
    ],
  });
  giveBack(state, lease);
});

/** One thing that can happen; numbers pick among what is there. */
const happening = fc.oneof(
  fc.record({
    kind: fc.constantFrom("ask", "ask", "ask", "release", "start", "join", "rejoin", "cut"),
    pick: fc.nat(20),
  }),
  fc.record({ kind: fc.constantFrom("leave", "crash", "ready", "hear"), pick: fc.nat(20) }),
  fc.record({ kind: fc.constantFrom("pass"), pick: fc.nat(8000) }),
);

test("whatever happens in whatever order, counters are never negative and end at 0", () => {
  fc.assert(
    fc.property(fc.array(happening, { minLength: 40, maxLength: 160 }), (happenings) => {
      const state = cluster({ forgetAfterMs: 20_000 });
      const catalog = createCatalogReader(state);
      const leases: Lease[] = [];
      let now = T0;
      let run = 0;
      const pickWorker = (pick: number) =>
        [...state.workers.values()][pick % Math.max(1, state.workers.size)];
      for (const { kind, pick } of happenings) {
        run += 1;
        const worker = pickWorker(pick);
        const lease = leases[pick % Math.max(1, leases.length)];
        if (kind === "ask") {
          const grant = acquire({ state, catalog: catalog(), router }, request("m"), {
            now,
            random: Math.random,
          });
          if (grant.granted) leases.push(grant.lease);
        } else if (kind === "release" && lease) giveBack(state, lease);
        else if (kind === "start" && lease) started({ state, router }, lease, now);
        else if (kind === "join" && state.workers.size < 5)
          addWorker(state, `w${run}x`, { models: ["m"], now });
        else if (kind === "rejoin" && worker) {
          const again = { workerId: worker.id, name: worker.name };
          const sameRun = pick % 2 === 0;
          const hi = hello("x", {
            ...again,
            run: sameRun ? worker.run : `r${run}`,
            epoch: worker.epoch + 1,
          });
          tryJoin(state, hi, now);
        } else if (kind === "cut" && worker) disconnect(state, worker);
        else if (kind === "leave" && worker)
          goodbye(state, worker, { left: true, reason: "", deadlineMs: 0 });
        else if (kind === "hear" && worker) heard(worker, now);
        else if (kind === "crash" && worker) {
          reportEngine(
            state,
            { worker, report: report({ run: `e${run}`, state: "BACKOFF" }) },
            now,
          );
        } else if (kind === "ready" && worker) {
          const change = reportEngine(state, { worker, report: report({ run: `e${run}` }) }, now);
          if (change) setRoute(state, change.engine, { via: "direct", url: "http://x" });
          setModels(state, worker, { models: ["m"], now });
        } else if (kind === "pass") {
          for (const end = now + pick; now < end;) {
            now = Math.min(end, now + 250);
            tick(state, now);
            for (const { lease } of reschedules({ state, catalog: catalog() }, now)) {
              if (pick % 3 > 0) giveBack(state, lease);
            }
          }
        }
        for (const { inFlight, engines } of state.workers.values()) {
          expect(inFlight).toBeGreaterThanOrEqual(0);
          for (const engine of engines.values()) {
            expect(engine.inFlight).toBeGreaterThanOrEqual(0);
            expect(engine.pendingTokens).toBeGreaterThanOrEqual(0);
          }
        }
      }
      for (const lease of leases) giveBack(state, lease);
      expect(state.leases.size).toBe(0);
      for (const { inFlight, engines } of state.workers.values()) {
        expect(inFlight).toBe(0);
        for (const engine of engines.values()) expect(engine.inFlight).toBe(0);
      }
    }),
    { numRuns: 300 },
  );
});
