import { expect, test } from "bun:test";
import { buildCatalog } from "../../../src/cluster/state/catalog.ts";
import type { DrainOrder } from "../../../src/cluster/state/drain-order.ts";
import {
  drainReschedule,
  dropOrder,
  lastReplicas,
  setOrder,
} from "../../../src/cluster/liveness/drains.ts";
import { updateLiveness, tick } from "../../../src/cluster/liveness/liveness.ts";
import {
  disconnect,
  goodbye,
  heard,
  reportEngine,
  setRoute,
} from "../../../src/cluster/state/registry.ts";
import { nextStep, type RestartStep } from "../../../src/cluster/liveness/restarts.ts";
import type { ClusterState, Lease } from "../../../src/cluster/state/state.ts";
import { accepted, addWorker, cluster, hello, report, T0, tryJoin, request } from "../fixtures.ts";

function order(worker: string, more: Partial<DrainOrder> = {}): DrainOrder {
  return {
    id: `order-${worker}`,
    batch: "batch",
    workerId: `worker-${worker}`,
    workerName: worker,
    purpose: "drain",
    stage: "draining",
    who: "ann@desk",
    message: null,
    since: T0,
    place: 0,
    patienceMs: 1000,
    deadline: T0 + 1000,
    force: false,
    engine: null,
    engineRun: null,
    cutOff: 0,
    ...more,
  };
}

function restart(worker: string, more: Partial<DrainOrder> = {}): DrainOrder {
  const queued = { purpose: "restart", stage: "queued", deadline: null, engine: "1" } as const;
  return order(worker, { ...queued, ...more });
}

function states(state: ClusterState, id: string): string {
  const worker = state.workers.get(`worker-${id}`);
  if (!worker) return "gone";
  updateLiveness(state, worker, state.lastTickAt);
  return `${worker.state}: ${worker.reason}`;
}

test("an order drains its worker, and its end lets requests in again", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  setOrder(state, order("a", { message: "new driver" }));
  expect(states(state, "a")).toBe("drained: drain by ann@desk: new driver");
  expect(buildCatalog(state).get("m")?.[0]?.state).toBe("draining");
  worker.inFlight = 2;
  expect(states(state, "a")).toStartWith("draining: ");
  worker.inFlight = 0;
  dropOrder(state, "worker-a");
  expect(states(state, "a")).toBe("ready: null");
  expect(buildCatalog(state).get("m")?.[0]?.state).toBe("ready");
});

test("a queued restart leaves its worker alone", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  setOrder(state, restart("a"));
  expect(states(state, "a")).toBe("ready: null");
});

test("silence is told before an order, and the order holds when the worker is back", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  setOrder(state, order("a"));
  disconnect(state, worker);
  expect(states(state, "a")).toStartWith("stale: ");
  // Another life of the worker, in place of one that was forgotten meanwhile.
  tick(state, T0 + 700_000);
  state.workers.delete(worker.id);
  accepted(tryJoin(state, hello("a", { run: "later" }), T0 + 700_000));
  expect(states(state, "a")).toBe("drained: drain by ann@desk");
});

test("a worker that leaves says so itself, ordered or not", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  setOrder(state, order("a"));
  goodbye(state, worker, { left: false, reason: "Slurm ends", deadlineMs: 0 });
  expect(states(state, "a")).toBe("drained: Slurm ends");
  dropOrder(state, "worker-a");
  expect(states(state, "a")).toBe("drained: Slurm ends");
});

test("what has not started moves at once, the rest ends at the deadline and is counted", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  const lease = {
    workerId: "worker-a",
    workerName: "a",
    request: request("m"),
  } as unknown as Lease;
  const reschedule = (mayMove: boolean, now: number) =>
    drainReschedule(state, lease, { mayMove, now })?.kind ?? null;
  expect(reschedule(true, T0)).toBeNull();
  setOrder(state, order("a"));
  expect([reschedule(true, T0), reschedule(false, T0), reschedule(false, T0 + 999)]).toEqual([
    "move",
    null,
    null,
  ]);
  expect([reschedule(true, T0 + 1000), reschedule(false, T0 + 1000)]).toEqual(["move", "fail"]);
  expect(state.drainOrders.get("worker-a")?.cutOff).toBe(1);
  setOrder(state, restart("a"));
  expect(reschedule(true, T0 + 9000)).toBeNull();
});

test("the last ready replicas: of one, of several together, of several in turn", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m", "only-a"] });
  const b = addWorker(state, "b", { models: ["m"] });
  const last = (ids: string[], together: boolean) =>
    lastReplicas([buildCatalog(state)], ids, { together }).map(
      ({ workerId, name }) => `${workerId} ${name}`,
    );
  expect(last(["worker-b"], true)).toEqual([]);
  expect(last(["worker-a"], true)).toEqual(["worker-a only-a"]);
  expect(last(["worker-a", "worker-b"], true)).toEqual([
    "worker-a m",
    "worker-b m",
    "worker-a only-a",
  ]);
  expect(last(["worker-a", "worker-b"], false)).toEqual(["worker-a only-a"]);
  // A replica that is not ready is no replacement, and nothing is lost with it.
  setOrder(state, order("b"));
  updateLiveness(state, b.worker, T0);
  expect(last(["worker-a"], true)).toEqual(["worker-a m", "worker-a only-a"]);
  expect(last(["worker-b"], true)).toEqual([]);
});

/** The next step of the order of a worker, as a word. */
function step(state: ClusterState, id: string, now = T0): string {
  const current = state.drainOrders.get(`worker-${id}`);
  if (!current) return "no order";
  for (const worker of state.workers.values()) updateLiveness(state, worker, now);
  const next: RestartStep = nextStep(state, { order: current, offers: [buildCatalog(state)] }, now);
  return next.do === "fail" ? `fail: ${next.reason}` : next.do;
}

test("a restart goes from the queue by the drain and the new run to its end", () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"], run: "old" });
  addWorker(state, "b", { models: ["m"] });
  setOrder(state, restart("a"));
  expect(step(state, "a")).toBe("drain");
  worker.inFlight = 1;
  setOrder(state, restart("a", { stage: "draining", deadline: T0 + 1000 }));
  expect(step(state, "a")).toBe("wait");
  worker.inFlight = 0;
  expect(step(state, "a")).toBe("restart");
  const restarting = restart("a", { stage: "restarting", engineRun: "old" });
  setOrder(state, restarting);
  // The message may be lost: it is due until something comes of it.
  expect(step(state, "a")).toBe("restart");
  const says = (more: Parameters<typeof report>[0]) =>
    reportEngine(state, { worker, report: report(more) }, T0);
  says({ run: "old", state: "STOPPING" });
  expect(step(state, "a")).toBe("wait");
  says({ run: "new", state: "STARTING" });
  expect(step(state, "a")).toBe("wait");
  says({ run: "new", state: "READY" });
  expect(step(state, "a")).toBe("wait"); // the way to it is not known yet
  setRoute(state, engine, { via: "lane" });
  expect(step(state, "a")).toBe("done");
  dropOrder(state, worker.id);
  expect(states(state, "a")).toBe("ready: null");
});

test("restarts go one after the other, in the order in which they were asked for", () => {
  const state = cluster();
  for (const id of ["a", "b", "c"]) addWorker(state, id, { models: ["m"] });
  setOrder(state, restart("c", { place: 1 }));
  setOrder(state, restart("b", { place: 0 }));
  setOrder(state, restart("a", { since: T0 + 5, batch: "another" }));
  expect([step(state, "a"), step(state, "b"), step(state, "c")]).toEqual(["wait", "drain", "wait"]);
  setOrder(state, restart("b", { stage: "restarting", engineRun: "engine-run-b" }));
  expect([step(state, "a"), step(state, "c")]).toEqual(["wait", "wait"]);
  dropOrder(state, "worker-b");
  expect([step(state, "a"), step(state, "c")]).toEqual(["wait", "drain"]);
});

test("a turn that would take a last replica now fails, unless that was asked for", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  setOrder(state, restart("a"));
  expect(step(state, "a")).toBe("fail: it has the last ready replica of m now");
  setOrder(state, restart("a", { force: true }));
  expect(step(state, "a")).toBe("drain");
});

test.each(["BACKOFF", "FAILED", "STOPPED"] as const)("a new run that is %s fails it", (word) => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"], run: "old" });
  setOrder(state, restart("a", { stage: "restarting", engineRun: "old", force: true }));
  // The old run may be so as well: then it is not restarted yet.
  reportEngine(state, { worker, report: report({ run: "old", state: word }) }, T0);
  expect(step(state, "a")).toBe("restart");
  const sad = report({ run: "new", state: word, reason: "out of memory" });
  reportEngine(state, { worker, report: sad }, T0);
  expect(step(state, "a")).toBe("fail: its engine ended: out of memory");
});

test("a restart fails with its worker: lost, leaving, or never back after the head's start", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  setOrder(state, restart("a", { stage: "draining", force: true }));
  setOrder(state, restart("b", { stage: "restarting", engineRun: "x" }));
  expect(step(state, "b", T0 + 29_000)).toBe("wait");
  expect(step(state, "b", T0 + 31_000)).toBe("fail: the worker is gone");
  heard(worker, T0 + 31_000);
  goodbye(state, worker, { left: false, reason: "Slurm ends", deadlineMs: 0 });
  expect(step(state, "a", T0 + 31_000)).toBe("fail: the worker leaves: Slurm ends");
  expect(step(state, "a", T0 + 99_000)).toBe("fail: the worker is lost");
  goodbye(state, worker, { left: true, reason: "", deadlineMs: 0 });
  expect(step(state, "a", T0 + 99_000)).toBe("fail: the worker is gone");
});
