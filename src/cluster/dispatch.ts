/** Leases: which request is on which replica, given out and taken back exactly once. */

import type { ErrorCode } from "../protocol/errors.ts";
import type { Catalog, Replica } from "./catalog.ts";
import { isKnownModel } from "./registry.ts";
import { pickReplica } from "./routing.ts";
import { type ClusterState, heartbeatPlan, type Lease } from "./state.ts";

/** What a request needs. Plain data, so that another process could ask. */
export interface Want {
  model: string;
  /** Engines that this request has tried already, by key. */
  exclude: readonly string[];
}

export type Grant =
  | { granted: true; lease: Lease }
  | { granted: false; code: ErrorCode; message: string; retryAfterMs: number | null };

/** Gives a replica out, or says why there is none. */
export function acquire(
  context: { state: ClusterState; catalog: Catalog },
  want: Want,
  at: { now: number; random: () => number },
): Grant {
  const { state, catalog } = context;
  const replicas = catalog.get(want.model) ?? [];
  const candidates = replicas.filter(
    (replica) => replica.state === "ready" && !want.exclude.includes(replica.engine.key),
  );
  const picked = pickReplica(candidates, at.random);
  if (!picked || picked.engine.route.via !== "direct") {
    return explain({ state, replicas }, want, at.now);
  }
  const { worker, engine } = picked;
  const lease: Lease = {
    id: state.nextLease,
    workerId: worker.id,
    workerName: worker.name,
    workerRun: worker.run,
    engineKey: engine.key,
    engineRun: engine.run,
    model: want.model,
    url: engine.route.via === "direct" ? engine.route.url : "",
    apiKey: engine.apiKey,
    started: false,
    progressAt: at.now,
    recalled: false,
    tried: want.exclude,
  };
  state.nextLease += 1;
  state.leases.set(lease.id, lease);
  worker.inFlight += 1;
  engine.inFlight += 1;
  return { granted: true, lease };
}

/** Takes a lease back; a second time does nothing. */
export function release(state: ClusterState, lease: Lease): void {
  if (!state.leases.delete(lease.id)) return;
  const worker = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return;
  worker.inFlight -= 1;
  const engine = worker.engines.get(lease.engineKey.slice(worker.id.length + 1));
  if (engine) engine.inFlight -= 1;
}

export interface Recall {
  lease: Lease;
  /** `move`: take it elsewhere, nothing is lost. `fail`: its worker is gone. */
  kind: "move" | "fail";
  reason: string;
}

/**
 * The requests that must leave the place they are at. Each is named once:
 *  * not started, on a silent or lost worker, and another replica can have it;
 *  * on a lost worker, and its own connection has been silent for as long;
 *  * its engine's or worker's process has ended, and its own connection did not say so meanwhile.
 */
export function recalls(context: { state: ClusterState; catalog: Catalog }, now: number): Recall[] {
  const { state, catalog } = context;
  const lostAfterMs = heartbeatPlan(state).lostAfterMs;
  const found: Recall[] = [];
  for (const lease of state.leases.values()) {
    if (lease.recalled) continue;
    const worker = state.workers.get(lease.workerId);
    const ended = state.endedRuns.get(lease.engineRun) ?? state.endedRuns.get(lease.workerRun);
    const mayMove = !lease.started && canMove(catalog, lease);
    if (ended !== undefined) {
      if (now - ended < state.limits.endedGraceMs) continue;
      const kind = mayMove ? "move" : "fail";
      found.push({ lease, kind, reason: `its process on ${lease.workerName} ended` });
    } else if (worker?.state === "stale" || worker?.state === "lost") {
      const reason = `worker ${lease.workerName} is ${worker.state}`;
      if (mayMove) found.push({ lease, kind: "move", reason });
      else if (worker.state === "lost" && now - lease.progressAt >= lostAfterMs) {
        found.push({ lease, kind: "fail", reason });
      }
    }
  }
  for (const recall of found) recall.lease.recalled = true;
  return found;
}

function canMove(catalog: Catalog, lease: Lease): boolean {
  const replicas = catalog.get(lease.model) ?? [];
  return replicas.some(
    ({ state, engine }) =>
      state === "ready" && engine.key !== lease.engineKey && !lease.tried.includes(engine.key),
  );
}

/** Why no replica can be had now, as the client is told. */
function explain(
  context: { state: ClusterState; replicas: readonly Replica[] },
  want: Want,
  now: number,
): Grant {
  const { state, replicas } = context;
  const name = JSON.stringify(want.model);
  if (replicas.length > 0) {
    const why = [...new Set(replicas.map(describe))].slice(0, 3).join("; ");
    const message = `No replica of the model ${name} can answer now: ${why}.`;
    return { granted: false, code: "no_ready_replica", message, retryAfterMs: 1000 };
  }
  if (isKnownModel(state, want.model, now)) {
    const message = `The model ${name} was served before, but no worker has it now.`;
    return { granted: false, code: "no_ready_replica", message, retryAfterMs: 1000 };
  }
  if (now - state.startedAt < state.limits.settleMs) {
    const message = `The model ${name} is not here yet: the head has just started, and its workers may be on their way back.`;
    return { granted: false, code: "no_ready_replica", message, retryAfterMs: 1000 };
  }
  const message = `The model ${name} does not exist.`;
  return { granted: false, code: "model_not_found", message, retryAfterMs: null };
}

/** Words without worker names or addresses: clients need not know them. */
function describe(replica: Replica): string {
  switch (replica.state) {
    case "ready":
      return "the replicas that are ready have failed this request";
    case "starting":
      return replica.engine.phase ? `starting (${replica.engine.phase})` : "starting";
    case "unreachable":
      return "its worker cannot be reached";
    case "latched":
      return "busy";
    case "draining":
      return "stopping";
    case "excluded":
      return "failed";
  }
}
