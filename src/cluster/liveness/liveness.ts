/** Who is alive, from when each worker was last heard; nothing here reads a clock. */

import { heartbeatPlan } from "../state/limits.ts";
import { formatDuration } from "../../util/units.ts";
import { drainReason } from "./drains.ts";
import { remember } from "../state/registry.ts";
import { type ClusterState, type Worker, type WorkerState } from "../state/state.ts";

export interface Transition {
  worker: Worker;
  from: WorkerState;
  to: WorkerState;
}

/**
 * Brings every worker's state up to `now`; to be called every `limits.tickIntervalMs`. Where the
 * call itself comes late (the head was stopped or starved), every deadline moves by as much: the
 * workers could not be heard meanwhile.
 */
export function tick(state: ClusterState, now: number): Transition[] {
  const late = now - state.lastTickAt - state.limits.tickIntervalMs;
  state.lastTickAt = now;
  if (late > state.limits.tickIntervalMs) {
    for (const worker of state.workers.values()) {
      worker.lastHeardAt = Math.min(now, worker.lastHeardAt + late);
    }
    for (const lease of state.leases.values()) {
      lease.progressAt = Math.min(now, lease.progressAt + late);
    }
  }
  const transitions: Transition[] = [];
  for (const worker of state.workers.values()) {
    const transition = updateLiveness(state, worker, now);
    if (transition) transitions.push(transition);
    const gone = worker.left || worker.state === "lost";
    if (gone && now - worker.stateSince > state.limits.forgetAfterMs && worker.inFlight === 0) {
      state.workers.delete(worker.id);
      state.revision += 1;
    }
  }
  return transitions;
}

/** Brings one worker's state up to `now`; to be called after each message that may change it. */
export function updateLiveness(
  state: ClusterState,
  worker: Worker,
  now: number,
): Transition | null {
  const { to, reason } = derive(state, worker, now);
  worker.reason = reason;
  if (to === worker.state) return null;
  const from = worker.state;
  worker.state = to;
  worker.stateSince = now;
  // Its models stay known for an hour from now, not from when they were announced.
  for (const engine of worker.engines.values()) remember(state, engine.models, now);
  state.revision += 1;
  return { worker, from, to };
}

function derive(
  state: ClusterState,
  worker: Worker,
  now: number,
): { to: WorkerState; reason: string | null } {
  if (worker.left) return { to: "left", reason: worker.drain };
  const silentMs = now - worker.lastHeardAt;
  const plan = heartbeatPlan(state);
  if (!worker.connected || silentMs >= plan.staleAfterMs) {
    const what = worker.connected ? "silent" : "connection lost";
    const reason = `${what} for ${formatDuration(silentMs)}`;
    return { to: silentMs >= plan.lostAfterMs ? "lost" : "stale", reason };
  }
  const draining = drainReason(state, worker);
  if (draining === null) return { to: "ready", reason: null };
  return { to: worker.inFlight > 0 ? "draining" : "drained", reason: draining };
}
