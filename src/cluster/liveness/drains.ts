/** Workers that take no new requests because an operator says so, and what follows from that. */

import type { DrainOrder } from "../state/drain-order.ts";
import { isServing } from "../state/catalog.ts";
import type { Catalog, ClusterState, Lease, Worker } from "../state/state.ts";

/** The order that keeps requests away from the worker now; null: there is none, or it is queued. */
export function activeOrder(state: ClusterState, workerId: string): DrainOrder | null {
  const order = state.drainOrders.get(workerId);
  return order === undefined || order.stage === "queued" ? null : order;
}

/** Why a worker takes no new requests, by an order or by its own word; null: it takes some. */
export function drainReason(state: ClusterState, worker: Worker): string | null {
  const order = activeOrder(state, worker.id);
  return worker.drain ?? (order && orderText(order));
}

/** An order in a line for people. */
export function orderText({ purpose, who, message }: DrainOrder): string {
  return `${purpose} by ${who}${message === null ? "" : `: ${message}`}`;
}

export function setOrder(state: ClusterState, order: DrainOrder): void {
  state.drainOrders.set(order.workerId, order);
  state.revision += 1;
}

export function dropOrder(state: ClusterState, workerId: string): void {
  if (state.drainOrders.delete(workerId)) state.revision += 1;
}

/**
 * Whether a request must leave a worker that drains by an order: what has not started moves where
 * another replica can have it, the rest may go on until the deadline.
 */
export function drainReschedule(
  state: ClusterState,
  lease: Lease,
  { mayMove, now }: { mayMove: boolean; now: number },
): { kind: "move" | "fail"; reason: string } | null {
  const order = activeOrder(state, lease.workerId);
  if (order === null) return null;
  if (mayMove) return { kind: "move", reason: `worker ${lease.workerName} drains` };
  if (order.deadline === null || now < order.deadline) return null;
  order.cutOff += 1;
  return { kind: "fail", reason: `worker ${lease.workerName} reached its drain deadline` };
}

export interface LastReplica {
  workerId: string;
  /** The model, or the service. */
  name: string;
}

/**
 * What would have no ready replica any more without these workers. `together`: without all of them
 * at once; otherwise without any one of them.
 */
export function lastReplicas(
  offers: readonly Catalog[],
  workerIds: readonly string[],
  { together }: { together: boolean },
): LastReplica[] {
  const found: LastReplica[] = [];
  for (const [name, replicas] of offers.flatMap((catalog) => [...catalog])) {
    const ready = new Set(
      replicas.filter(({ state }) => isServing(state)).map(({ worker }) => worker.id),
    );
    for (const workerId of workerIds) {
      if (!ready.has(workerId)) continue;
      const others = [...ready].filter(
        (id) => id !== workerId && !(together && workerIds.includes(id)),
      );
      if (others.length === 0) found.push({ workerId, name });
    }
  }
  return found;
}
