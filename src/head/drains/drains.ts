/** Carries out what operators order of workers: drains, their end, and restarts one after the other. */

import {
  activeOrder,
  dropOrder,
  lastReplicas,
  orderText,
  setOrder,
} from "../../cluster/liveness/drains.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import { updateLiveness, type Transition } from "../../cluster/liveness/liveness.ts";
import { isCalled, workerNamed } from "../../cluster/state/named.ts";
import { nextStep } from "../../cluster/liveness/restarts.ts";
import { serviceCatalog } from "../../cluster/state/catalog.ts";
import type { Catalog, ClusterState, Worker } from "../../cluster/state/state.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { HeadMessage } from "../../protocol/messages.ts";
import type { Log } from "../../util/log.ts";
import { keyOf } from "./store.ts";
import { restartTarget, type Target } from "./targets.ts";
import { type DrainRequest, lastReplicaRefused, ordersFor, type Outcome } from "./request.ts";
import type { Store } from "../store/store.ts";

export interface DrainsOptions {
  state: ClusterState;
  catalog: () => Catalog;
  store: Store;
  now: () => number;
  log: Log;
  /** Says something to a worker; false: it cannot be told now. */
  tell: (worker: Worker, message: HeadMessage) => boolean;
  /** A worker's state changed. */
  onTransition: (transition: Transition) => void;
  /** After how long a worker that shows no sign of it is told again to restart its engine. */
  repeatMs: number;
}

/** An order that is no more. */
export interface EndedOrder {
  order: DrainOrder;
  outcome: "undrained" | "restarted" | "failed";
  reason: string | null;
}

export interface Drains extends Disposable {
  /** Throws `worker_not_found`, `not_found`, `refused`, `last_replica`; then nothing has changed. */
  drain(request: DrainRequest): Promise<Outcome>;
  restart(request: DrainRequest): Promise<Outcome>;
  /** Takes orders back; null for a worker that has none. Throws `worker_not_found`. */
  undrain(
    workers: readonly string[],
  ): Promise<{ worker: Worker | null; order: DrainOrder | null }[]>;
  /** Nobody waits for this worker any more. */
  forget(workerId: string): Promise<void>;
  /** Those that ended lately, the latest last. */
  ended(): readonly EndedOrder[];
}

/** Ended orders that are remembered for the commands that watch them. */
const MAX_ENDED = 256;

/** The orders themselves are in the state, from `loadDrains` on. */
export function startDrains(options: DrainsOptions): Drains {
  const { state, store, now, log } = options;
  const ended: EndedOrder[] = [];
  /** When the worker of an order was told last to restart its engine. */
  const toldAt = new Map<string, number>();
  /** Orders that are being taken out of the store. */
  const ending = new Set<string>();
  const durable = { durable: true };

  const settleNow = (workerId: string) => {
    const worker = state.workers.get(workerId);
    const transition = worker ? updateLiveness(state, worker, now()) : null;
    if (transition) options.onTransition(transition);
  };
  const announce = (order: DrainOrder, active: boolean) => {
    const worker = state.workers.get(order.workerId);
    const reason = active ? orderText(order) : "";
    if (worker) options.tell(worker, { message: "drain", drain: { active, reason } });
  };
  const save = (order: DrainOrder) => store.put(keyOf(order.workerId), order, durable);
  const enter = (order: DrainOrder) => {
    const wasActive = activeOrder(state, order.workerId) !== null;
    setOrder(state, order);
    if (order.stage === "queued") return;
    if (!wasActive) announce(order, true);
    settleNow(order.workerId);
  };
  const isHeld = (order: DrainOrder) => state.drainOrders.get(order.workerId)?.id === order.id;
  const end = async (order: DrainOrder, how: Omit<EndedOrder, "order">) => {
    // Whoever else ends it or takes it a step on meanwhile comes too late.
    if (ending.has(order.id) || !isHeld(order)) return;
    ending.add(order.id);
    try {
      await store.delete(keyOf(order.workerId), durable);
    } finally {
      ending.delete(order.id);
    }
    toldAt.delete(order.id);
    ended.push({ order, ...how });
    if (ended.length > MAX_ENDED) ended.shift();
    dropOrder(state, order.workerId);
    if (order.stage !== "queued") announce(order, false);
    settleNow(order.workerId);
    const fields = { worker: order.workerName, by: order.who, reason: how.reason ?? undefined };
    if (how.outcome === "failed") log.warn("restart failed", fields);
    else log.info(how.outcome === "restarted" ? "engine restarted" : "drain taken back", fields);
  };

  /** Orders a command's workers at once, or refuses all of them. */
  const order = async (
    request: DrainRequest,
    targets: readonly Target[],
    { together }: { together: boolean },
  ): Promise<Outcome> => {
    const orders = ordersFor(state, { request, targets, now: now() });
    const fresh = orders.flatMap((one) => (one.isOld ? [] : [one.order]));
    const ids = fresh.map(({ workerId }) => workerId);
    const last = lastReplicas([options.catalog(), serviceCatalog(state)], ids, { together });
    if (request.dryRun) return { orders, last };
    if (last.length > 0 && !request.force) throw lastReplicaRefused(fresh, last);
    await Promise.all(fresh.map(save));
    for (const one of fresh) {
      log.info(`${one.purpose} ordered`, {
        worker: one.workerName,
        by: one.who,
        message: one.message ?? undefined,
      });
      enter(one);
    }
    return { orders, last };
  };

  const fail = async (failed: DrainOrder, reason: string) => {
    await end(failed, { outcome: "failed", reason });
    // What broke one engine may break the next one: the rest of the command is left alone.
    for (const other of [...state.drainOrders.values()]) {
      if (other.batch !== failed.batch || other.stage !== "queued") continue;
      const why = `not tried, since the restart of ${failed.workerName} failed`;
      await end(other, { outcome: "failed", reason: why });
    }
  };

  const advance = async (current: DrainOrder): Promise<void> => {
    const offers = [options.catalog(), serviceCatalog(state)];
    const step = nextStep(state, { order: current, offers }, now());
    const change = async (more: Partial<DrainOrder>) => {
      const next = { ...current, ...more };
      await save(next);
      if (isHeld(current)) enter(next);
    };
    switch (step.do) {
      case "wait":
        return;
      case "drain":
        await change({ stage: "draining", deadline: now() + current.patienceMs });
        return;
      case "restart": {
        if (current.stage === "draining") {
          // Before the worker is told: a head that ends now must not have it done twice.
          await change({ stage: "restarting", engineRun: step.engine.report.run });
        }
        if (!isHeld(current)) return;
        if (now() - (toldAt.get(current.id) ?? Number.NEGATIVE_INFINITY) < options.repeatMs) return;
        const worker = state.workers.get(current.workerId);
        const restartEngine = { engine: step.engine.number, reason: orderText(current) };
        if (worker && options.tell(worker, { message: "restartEngine", restartEngine })) {
          toldAt.set(current.id, now());
        }
        return;
      }
      case "done":
        return end(current, { outcome: "restarted", reason: null });
      case "fail":
        return fail(current, step.reason);
    }
  };

  let advancing = false;
  const look = async () => {
    if (advancing) return;
    advancing = true;
    try {
      for (const current of [...state.drainOrders.values()]) {
        if (current.purpose !== "restart" || ending.has(current.id)) continue;
        // What was done for an earlier one may have changed it.
        if (state.drainOrders.get(current.workerId) === current) await advance(current);
      }
    } catch (error) {
      log.error("restarts cannot go on; trying again", { error: messageOf(error) });
    } finally {
      advancing = false;
    }
  };
  const timer = setInterval(() => void look(), state.limits.tickIntervalMs);

  return {
    async drain(request) {
      const targets = request.workers.map((name) => ({
        worker: workerNamed(state, name),
        engine: null,
      }));
      for (const { worker } of targets) {
        if (state.drainOrders.get(worker.id)?.purpose !== "restart") continue;
        const hint = `let it end first: llmnode undrain ${worker.name}`;
        throw new LlmnodeError("refused", `${worker.name} is being restarted; ${hint}`);
      }
      return order(request, targets, { together: true });
    },
    async restart(request) {
      const targets = request.workers.map((name) => restartTarget(state, name));
      const outcome = await order(request, targets, { together: false });
      if (!request.dryRun) await look();
      return outcome;
    },
    async undrain(names) {
      const found = names.map((name) => {
        const held = [...state.drainOrders.values()].find(({ workerId, workerName }) =>
          isCalled({ id: workerId, name: workerName }, name),
        );
        // A worker that is away can be told from its order.
        const worker = held ? state.workers.get(held.workerId) : workerNamed(state, name);
        return { worker: worker ?? null, order: held ?? null };
      });
      for (const one of found) {
        if (one.order) await end(one.order, { outcome: "undrained", reason: null });
      }
      return found;
    },
    async forget(workerId) {
      const held = state.drainOrders.get(workerId);
      if (held) await end(held, { outcome: "undrained", reason: "the worker was sent away" });
    },
    ended: () => ended,
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
