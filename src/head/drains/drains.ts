/** Carries out what operators order of workers: drains, their end, and restarts one after the other. */

import { lastReplicas } from "../../cluster/liveness/drains.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import { isCalled, workerNamed } from "../../cluster/state/named.ts";
import { serviceCatalog } from "../../cluster/state/catalog.ts";
import type { Worker } from "../../cluster/state/state.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { OnTick } from "../../util/sleep.ts";
import { type EndedOrder, Orders } from "./orders.ts";
import { type DrainRequest, lastReplicaRefused, ordersFor, type Outcome } from "./request.ts";
import { Restarts, type RestartsOptions } from "./restarts.ts";
import { restartTarget, type Target } from "./targets.ts";

export interface DrainsOptions extends Omit<RestartsOptions, "orders"> {
  onTick: OnTick;
}

export interface Drains extends Disposable {
  /** Throws `worker_not_found`, `not_found`, `refused`, `last_replica`; then nothing has changed. */
  drain(request: DrainRequest): Promise<Outcome>;
  restart(request: DrainRequest): Promise<Outcome>;
  /** Takes orders back; null for a worker that has none. Throws `worker_not_found`. */
  undrain(
    workers: readonly string[],
  ): Promise<{ worker: Worker | null; order: DrainOrder | null }[]>;
  /** Drops the order of a worker that does not belong to the cluster any more. */
  forget(workerId: string): Promise<void>;
  /** Those that ended lately, the latest last. */
  ended(): readonly EndedOrder[];
}

export function startDrains(options: DrainsOptions): Drains {
  const { state } = options;
  const orders = new Orders(options);
  const restarts = new Restarts({ ...options, orders });
  const ticking = options.onTick(() => void restarts.advance());
  return {
    async drain(request) {
      const targets = request.workers.map((name) => drainTarget(options, name));
      return order(options, { orders, request, targets });
    },
    async restart(request) {
      const targets = request.workers.map((name) => restartTarget(state, name));
      const outcome = await order(options, { orders, request, targets });
      if (!request.dryRun) await restarts.advance();
      return outcome;
    },
    async undrain(names) {
      const found = names.map((name) => {
        const held = [...state.drainOrders.values()].find(({ workerId, workerName }) =>
          isCalled({ id: workerId, name: workerName }, name),
        );
        // The order is enough to name a worker that is away.
        const worker = held ? state.workers.get(held.workerId) : workerNamed(state, name);
        return { worker: worker ?? null, order: held ?? null };
      });
      for (const one of found) {
        if (one.order) await orders.end(one.order, { outcome: "undrained", reason: null });
      }
      return found;
    },
    async forget(workerId) {
      const held = state.drainOrders.get(workerId);
      const reason = "the worker was sent away";
      if (held) await orders.end(held, { outcome: "undrained", reason });
    },
    ended: () => orders.ended,
    [Symbol.dispose]: () => ticking[Symbol.dispose](),
  };
}

/** Throws `worker_not_found`; `refused` for a worker that is being restarted. */
function drainTarget({ state }: DrainsOptions, name: string): Target {
  const worker = workerNamed(state, name);
  if (state.drainOrders.get(worker.id)?.purpose === "restart") {
    const hint = `let it end first: llmnode undrain ${worker.name}`;
    throw new LlmnodeError("refused", `${worker.name} is being restarted; ${hint}`);
  }
  return { worker, engine: null };
}

/** Orders a command's workers at once, or refuses all of them. */
async function order(
  { state, catalog, log, now }: DrainsOptions,
  command: { orders: Orders; request: DrainRequest; targets: readonly Target[] },
): Promise<Outcome> {
  const { orders, request, targets } = command;
  const ordered = ordersFor(state, { request, targets, now: now() });
  const fresh = ordered.flatMap((one) => (one.isOld ? [] : [one.order]));
  const ids = fresh.map(({ workerId }) => workerId);
  // Workers are drained all at once, and restarted one after the other.
  const together = targets.every(({ engine }) => engine === null);
  const last = lastReplicas([catalog(), serviceCatalog(state)], ids, { together });
  if (request.dryRun) return { orders: ordered, last };
  if (last.length > 0 && !request.force) throw lastReplicaRefused(fresh, last);
  await Promise.all(fresh.map((one) => orders.save(one)));
  for (const one of fresh) {
    const { purpose, workerName: worker, who: by, message } = one;
    log.info(`${purpose} ordered`, { worker, by, message: message ?? undefined });
    orders.enter(one);
  }
  return { orders: ordered, last };
}
