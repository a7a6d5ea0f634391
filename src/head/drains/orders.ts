/** The orders about workers: in the cluster's state, in the store, and told to their workers. */

import { activeOrder, dropOrder, orderText, setOrder } from "../../cluster/liveness/drains.ts";
import { type Transition, updateLiveness } from "../../cluster/liveness/liveness.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import type { ClusterState, Worker } from "../../cluster/state/state.ts";
import type { HeadMessage } from "../../protocol/messages.ts";
import { isRecord } from "../../util/json.ts";
import type { Log } from "../../util/log.ts";
import type { Store } from "../store/store.ts";

export interface OrdersOptions {
  state: ClusterState;
  store: Store;
  now: () => number;
  log: Log;
  /** Says something to a worker; false: it cannot be told now. */
  tell: (worker: Worker, message: HeadMessage) => boolean;
  /** A worker's state changed. */
  onTransition: (transition: Transition) => void;
}

/** An order that is no more. */
export interface EndedOrder {
  order: DrainOrder;
  outcome: "undrained" | "restarted" | "failed";
  reason: string | null;
}

/** Ended orders that are remembered for the commands that watch them. */
const MAX_ENDED = 256;
const PREFIX = "drains/";
const DURABLE = { durable: true };

/** The orders themselves are in the state, from `loadDrains` on. */
export class Orders {
  /** Those that ended lately, the latest last. */
  readonly ended: EndedOrder[] = [];
  readonly #options: OrdersOptions;
  /** Orders that are being taken out of the store. */
  readonly #ending = new Set<string>();

  constructor(options: OrdersOptions) {
    this.#options = options;
  }

  /** Whether it still counts, and is not about to end. */
  isHeld(order: DrainOrder): boolean {
    const held = this.#options.state.drainOrders.get(order.workerId);
    return held?.id === order.id && !this.#ending.has(order.id);
  }

  save(order: DrainOrder): Promise<void> {
    return this.#options.store.put(PREFIX + order.workerId, order, DURABLE);
  }

  /** From now on it counts; it is saved already. */
  enter(order: DrainOrder): void {
    const { state } = this.#options;
    const wasActive = activeOrder(state, order.workerId) !== null;
    setOrder(state, order);
    if (order.stage === "queued") return;
    if (!wasActive) this.#announce(order, true);
    this.#updateWorker(order.workerId);
  }

  /** Saves a further stage of it, unless it has ended meanwhile. */
  async change(order: DrainOrder, more: Partial<DrainOrder>): Promise<void> {
    const next = { ...order, ...more };
    await this.save(next);
    if (this.#options.state.drainOrders.get(order.workerId)?.id === order.id) this.enter(next);
  }

  async end(order: DrainOrder, how: Omit<EndedOrder, "order">): Promise<void> {
    const { state, store, log } = this.#options;
    // What else ends it or takes it a step on meanwhile comes too late.
    if (!this.isHeld(order)) return;
    this.#ending.add(order.id);
    try {
      await store.delete(PREFIX + order.workerId, DURABLE);
    } finally {
      this.#ending.delete(order.id);
    }
    this.ended.push({ order, ...how });
    if (this.ended.length > MAX_ENDED) this.ended.shift();
    dropOrder(state, order.workerId);
    if (order.stage !== "queued") this.#announce(order, false);
    this.#updateWorker(order.workerId);
    const fields = { worker: order.workerName, by: order.who, reason: how.reason ?? undefined };
    if (how.outcome === "failed") log.warn("restart failed", fields);
    else log.info(how.outcome === "restarted" ? "engine restarted" : "drain taken back", fields);
  }

  #announce(order: DrainOrder, active: boolean): void {
    const worker = this.#options.state.workers.get(order.workerId);
    const reason = active ? orderText(order) : "";
    if (worker) this.#options.tell(worker, { message: "drain", drain: { active, reason } });
  }

  #updateWorker(workerId: string): void {
    const { state, now, onTransition } = this.#options;
    const worker = state.workers.get(workerId);
    const transition = worker ? updateLiveness(state, worker, now()) : null;
    if (transition) onTransition(transition);
  }
}

/** Takes the orders of an earlier life of the head into the state, before the first worker is back. */
export function loadDrains(state: ClusterState, { store, log }: { store: Store; log: Log }): void {
  for (const { key, value } of store.list(PREFIX)) {
    if (isOrder(value)) setOrder(state, value);
    else log.warn("a drain in the store cannot be read; it is ignored", { key });
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
