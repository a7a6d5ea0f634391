/** Takes ordered restarts on, one step after the other: drain, restart, done or failed. */

import { orderText } from "../../cluster/liveness/drains.ts";
import { nextStep } from "../../cluster/liveness/restarts.ts";
import type { DrainOrder } from "../../cluster/state/drain-order.ts";
import { serviceCatalog } from "../../cluster/state/catalog.ts";
import type { Catalog } from "../../cluster/state/state.ts";
import { messageOf } from "../../protocol/errors.ts";
import type { Orders, OrdersOptions } from "./orders.ts";

export interface RestartsOptions extends OrdersOptions {
  catalog: () => Catalog;
  orders: Orders;
  /** After how long a worker that shows no sign of it is told again to restart its engine. */
  repeatMs: number;
}

export class Restarts {
  readonly #options: RestartsOptions;
  /** When the worker of an order was told last to restart its engine. */
  readonly #toldAt = new Map<string, number>();
  #isAdvancing = false;

  constructor(options: RestartsOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async advance(): Promise<void> {
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    const { state, orders, log } = this.#options;
    try {
      for (const order of [...state.drainOrders.values()]) {
        if (order.purpose !== "restart" || !orders.isHeld(order)) continue;
        // What was done for an earlier one may have changed it.
        if (state.drainOrders.get(order.workerId) === order) await this.#step(order);
      }
      this.#forgetEnded();
    } catch (error) {
      log.error("restarts cannot proceed; trying again", { error: messageOf(error) });
    } finally {
      this.#isAdvancing = false;
    }
  }

  async #step(order: DrainOrder): Promise<void> {
    const { state, orders, catalog, now } = this.#options;
    const step = nextStep(state, { order, offers: [catalog(), serviceCatalog(state)] }, now());
    switch (step.do) {
      case "wait":
        return;
      case "drain":
        return orders.change(order, { stage: "draining", deadline: now() + order.patienceMs });
      case "restart":
        if (order.stage === "draining") {
          // Before the worker is told: a head that ends now must not have it done twice.
          await orders.change(order, { stage: "restarting", engineRun: step.engine.report.run });
        }
        return this.#tell(order, step.engine.number);
      case "done":
        return orders.end(order, { outcome: "restarted", reason: null });
      case "fail":
        return this.#fail(order, step.reason);
    }
  }

  #tell(order: DrainOrder, engine: string): void {
    const { state, orders, tell, now, repeatMs } = this.#options;
    if (!orders.isHeld(order)) return;
    if (now() - (this.#toldAt.get(order.id) ?? Number.NEGATIVE_INFINITY) < repeatMs) return;
    const worker = state.workers.get(order.workerId);
    const restartEngine = { engine, reason: orderText(order) };
    if (worker && tell(worker, { message: "restartEngine", restartEngine })) {
      this.#toldAt.set(order.id, now());
    }
  }

  async #fail(failed: DrainOrder, reason: string): Promise<void> {
    const { state, orders } = this.#options;
    await orders.end(failed, { outcome: "failed", reason });
    // What broke one engine may break the next one: the rest of the command is left alone.
    for (const other of [...state.drainOrders.values()]) {
      if (other.batch !== failed.batch || other.stage !== "queued") continue;
      const why = `not tried, since the restart of ${failed.workerName} failed`;
      await orders.end(other, { outcome: "failed", reason: why });
    }
  }

  #forgetEnded(): void {
    if (this.#toldAt.size === 0) return;
    const open = new Set([...this.#options.state.drainOrders.values()].map(({ id }) => id));
    for (const id of this.#toldAt.keys()) if (!open.has(id)) this.#toldAt.delete(id);
  }
}
