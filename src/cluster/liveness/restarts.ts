/** The next step of a restart that an operator ordered: drain, start the engine again, be ready. */

import { lastReplicas } from "./drains.ts";
import type { DrainOrder } from "../state/drain-order.ts";
import type { Catalog, ClusterState, Engine } from "../state/state.ts";

export type RestartStep =
  | { do: "wait" }
  /** Its turn has come: no new requests from now on. */
  | { do: "drain" }
  /** Nothing runs there any more: its worker is to start the engine again. */
  | { do: "restart"; engine: Engine }
  | { do: "done" }
  | { do: "fail"; reason: string };

const WAIT: RestartStep = { do: "wait" };

export function nextStep(
  state: ClusterState,
  { order, offers }: { order: DrainOrder; offers: readonly Catalog[] },
  now: number,
): RestartStep {
  const worker = state.workers.get(order.workerId);
  if (!worker) {
    // After the head's own start it may be on its way back.
    const isSettling =
      now - state.startedAt < Math.max(state.limits.settleMs, state.limits.lostAfterMs);
    return isSettling ? WAIT : { do: "fail", reason: "the worker is gone" };
  }
  if (worker.left || worker.state === "lost") {
    return { do: "fail", reason: `the worker is ${worker.left ? "gone" : "lost"}` };
  }
  const engine = worker.engines.get(order.engine ?? "");
  switch (order.stage) {
    case "queued": {
      if (!isTurnOf(state, order)) return WAIT;
      if (worker.state === "stale") return WAIT;
      const last = order.force ? [] : lastReplicas(offers, [worker.id], { together: false });
      const names = last.map(({ name }) => name).join(", ");
      if (last.length === 0) return { do: "drain" };
      return { do: "fail", reason: `it has the last ready replica of ${names} now` };
    }
    case "draining":
      if (worker.drain !== null)
        return { do: "fail", reason: `the worker leaves: ${worker.drain}` };
      if (worker.state !== "drained") return WAIT;
      return engine ? { do: "restart", engine } : WAIT;
    case "restarting":
      if (!engine) return WAIT;
      // The message may have been lost with its session, or with the head that had sent it.
      if (engine.report.run === order.engineRun)
        return isStill(engine) ? { do: "restart", engine } : WAIT;
      return afterRestart(engine);
  }
}

/** One at a time, of all operators' orders: each takes a replica away for a while. */
function isTurnOf(state: ClusterState, order: DrainOrder): boolean {
  for (const other of state.drainOrders.values()) {
    if (other === order || other.purpose !== "restart") continue;
    if (other.stage !== "queued" || isBefore(other, order)) return false;
  }
  return true;
}

function isBefore(a: DrainOrder, b: DrainOrder): boolean {
  return a.since < b.since || (a.since === b.since && a.place < b.place);
}

/** Whether nothing has been done to the engine yet. */
function isStill(engine: Engine): boolean {
  return engine.report.state !== "stopping" && engine.report.state !== "starting";
}

function afterRestart(engine: Engine): RestartStep {
  switch (engine.report.state) {
    case "ready":
      return ["direct", "lane"].includes(engine.route.via) ? { do: "done" } : WAIT;
    case "failed":
    case "stopped":
    case "backoff":
      return {
        do: "fail",
        reason: `its engine ended: ${engine.report.reason ?? engine.report.state}`,
      };
    case "starting":
    case "stopping":
    case "suspect":
    case "unhealthy":
      return WAIT;
  }
}
