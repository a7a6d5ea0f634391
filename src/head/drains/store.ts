/** Orders about workers in the store, where they outlive the head. */

import { setOrder } from "../../cluster/liveness/drains.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import type { ClusterState } from "../../cluster/state/state.ts";
import type { Log } from "../../util/log.ts";
import type { Store } from "../store/store.ts";
import { isRecord } from "../../util/json.ts";

const PREFIX = "drains/";

export function keyOf(workerId: string): string {
  return PREFIX + workerId;
}

/** Takes the orders of an earlier life of the head into the state, before the first worker is back. */
export function loadDrains(state: ClusterState, { store, log }: { store: Store; log: Log }): void {
  for (const { key, value } of store.list(PREFIX)) {
    if (isOrder(value)) setOrder(state, value);
    else log.warn("an order about a worker cannot be read, and does not count", { key });
  }
}

/** Another version may have written it. */
function isOrder(value: unknown): value is DrainOrder {
  if (!isRecord(value)) return false;
  const order: Partial<Record<keyof DrainOrder, unknown>> = value;
  const texts = [order.id, order.batch, order.workerId, order.workerName, order.who];
  const numbers = [order.since, order.place, order.patienceMs];
  return (
    texts.every((text) => typeof text === "string") &&
    numbers.every((number) => typeof number === "number") &&
    ["drain", "restart"].includes(String(order.purpose)) &&
    ["queued", "draining", "restarting"].includes(String(order.stage))
  );
}
