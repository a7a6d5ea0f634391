/** What a command orders of workers, and the orders that come of it. */

import type { LastReplica } from "../../cluster/liveness/drains.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import type { ClusterState } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Target } from "./targets.ts";

export interface DrainRequest {
  /** Names or ids; for a restart also `worker/1`. */
  workers: readonly string[];
  who: string;
  message: string | null;
  /** How long running requests may go on. */
  patienceMs: number;
  /** Whether models may be without a ready replica meanwhile. */
  force: boolean;
  /** Only says what would be done, and whether it takes a last replica. */
  dryRun: boolean;
}

/** One worker as an order finds it or leaves it. */
export interface Ordered {
  order: DrainOrder;
  /** Whether it was there before. */
  isOld: boolean;
}

export interface Outcome {
  orders: Ordered[];
  last: LastReplica[];
}

/** One order for each target: the one that its worker has, or a new one. Nothing is entered yet. */
export function ordersFor(
  state: ClusterState,
  { request, targets, now }: { request: DrainRequest; targets: readonly Target[]; now: number },
): Ordered[] {
  const batch = crypto.randomUUID();
  // A worker may have been named twice, by its name and by its id.
  const unique = [...new Map(targets.map((target) => [target.worker.id, target])).values()];
  return unique.map(({ worker, engine }, place) => {
    const old = state.drainOrders.get(worker.id);
    if (old) return { order: old, isOld: true };
    const isDrain = engine === null;
    const order: DrainOrder = {
      id: crypto.randomUUID(),
      batch,
      workerId: worker.id,
      workerName: worker.name,
      purpose: isDrain ? "drain" : "restart",
      stage: isDrain ? "draining" : "queued",
      who: request.who,
      message: request.message,
      since: now,
      place,
      patienceMs: request.patienceMs,
      deadline: isDrain ? now + request.patienceMs : null,
      force: request.force,
      engine: engine?.number ?? null,
      engineRun: null,
      cutOff: 0,
    };
    return { order, isOld: false };
  });
}

export function lastReplicaRefused(
  orders: readonly DrainOrder[],
  last: readonly LastReplica[],
): LlmnodeError {
  const whose = orders.filter(({ workerId }) => last.some((one) => one.workerId === workerId));
  const workers = whose.map(({ workerName }) => workerName).join(", ");
  const all = [...new Set(last.map(({ name }) => name))];
  const names = all.slice(0, MAX_NAMES).join(", ") + (all.length > MAX_NAMES ? ", ..." : "");
  const message = `${workers} ${whose.length === 1 ? "has" : "have"} the last ready replica of ${names}`;
  return new LlmnodeError("last_replica", message);
}

/** Models that are named to who would take their last replica. */
const MAX_NAMES = 5;
