/** Which requests must leave the replica that they are on. */

import { heartbeatPlan } from "../state/limits.ts";
import { fits, isUsable, replicasFor } from "../state/candidates.ts";
import { drainReschedule } from "../liveness/drains.ts";
import { leaveSuspect } from "./stall.ts";
import type { Catalog, ClusterState, Lease } from "../state/state.ts";

export interface Reschedule {
  lease: Lease;
  /** `move`: take it elsewhere, nothing is lost. `fail`: its worker is gone. */
  kind: "move" | "fail";
  reason: string;
}

/**
 * The requests that must leave the place they are at. Each is named once:
 *  * not started, on a silent or lost worker, and another replica can and may have it;
 *  * on a lost worker, and its own connection has been silent for as long;
 *  * its engine's or worker's process has ended, and its own connection did not say so meanwhile;
 *  * on a worker that drains, or an engine that nothing comes out of: see there.
 */
export function reschedules(
  context: { state: ClusterState; catalog: Catalog },
  now: number,
): Reschedule[] {
  const { state } = context;
  const lostAfterMs = heartbeatPlan(state).lostAfterMs;
  const found: Reschedule[] = [];
  for (const lease of state.leases.values()) {
    if (lease.rescheduled) continue;
    const worker = state.workers.get(lease.workerId);
    const ended = state.endedRuns.get(lease.engineRun) ?? state.endedRuns.get(lease.workerRun);
    const engine = worker?.engines.get(lease.engineNumber);
    // Nearly all are well: where else they could go is looked for only if they are not.
    if (ended === undefined && worker?.state === "ready" && !engine?.suspect) continue;
    const mayMove = !lease.started && !lease.request.once && canMove(context, lease);
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
    } else {
      const drained = drainReschedule(state, lease, { mayMove, now });
      const suspicion = drained === null && mayMove ? leaveSuspect(state, lease, now) : null;
      if (drained !== null) found.push({ lease, ...drained });
      else if (suspicion !== null) found.push({ lease, kind: "move", reason: suspicion });
    }
  }
  for (const reschedule of found) reschedule.lease.rescheduled = true;
  return found;
}

function canMove(
  context: { state: ClusterState; catalog: Catalog },
  { request, model, engineKey }: Lease,
): boolean {
  // One of any models stays with the model that it has.
  return replicasFor(context, request, model).some(
    (replica) =>
      replica.engine.key !== engineKey && isUsable(replica, request) && fits(replica, request),
  );
}
