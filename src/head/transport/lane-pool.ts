/** The lanes of one worker: which are free, how many there should be, what waits for one. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { MAX_LANE_HEAD_CHARS } from "../../protocol/lane-frames.ts";
import type { HttpRequest, Upstream } from "../../util/http/exchange.ts";
import { faultOf } from "../../util/http/request-head.ts";
import { Lane, type LaneOwner, type LaneSocket } from "./lane.ts";
import { LaneExchange } from "./lane-exchange.ts";

export const LANE_SETTINGS = {
  /** Lanes of a worker that are kept free. */
  parkedAtFirst: 8,
  maxLanesPerWorker: 512,
  maxLanes: 16_384,
  /** Requests that may wait for a lane of one worker, and how long. */
  maxWaiting: 1024,
  waitTimeoutMs: 10_000,
  /** Free lanes beyond those kept free are closed after so long. */
  shrinkAfterMs: 60_000,
  /** How long a worker may take to let go of a request that was cancelled. */
  doneTimeoutMs: 2000,
  /** Silence of a lane, pings included, after which it counts as dead: as with a worker. */
  deadAfterMs: 15_000,
};
export type LaneSettings = typeof LANE_SETTINGS;

export interface LanePoolOptions extends Omit<LaneSettings, "maxLanesPerWorker" | "deadAfterMs"> {
  /** Asks the worker for more lanes. */
  requestMore: (count: number) => void;
  /** Whether the head as a whole may have another lane. */
  mayGrow: () => boolean;
}

export class LanePool {
  readonly #options: LanePoolOptions;
  readonly #all = new Set<Lane>();
  /** The longest free first; the last one is taken. */
  readonly #parked: Lane[] = [];
  /** Both the longest so first. */
  readonly #waiting = new Set<LaneExchange>();
  readonly #cancelled = new Set<Lane>();
  #sweeping: ReturnType<typeof setTimeout> | null = null;
  /** Lanes that the worker was asked for and has not opened yet. */
  #coming = 0;
  #target: number;
  #closed = false;
  readonly #owner: LaneOwner = {
    parked: (lane) => {
      this.#cancelled.delete(lane);
      this.#park(lane);
    },
    cancelled: (lane) => {
      this.#cancelled.add(lane);
      this.#sweepLater();
    },
    closed: (lane) => this.#forget(lane),
  };

  constructor(options: LanePoolOptions) {
    this.#options = options;
    this.#target = Math.max(1, options.parkedAtFirst);
  }

  get lanes(): number {
    return this.#all.size;
  }

  get parked(): number {
    return this.#parked.length;
  }

  /**
   * Closes the free lanes of a worker that has connected again, perhaps over another network path,
   * and returns how many it should open. A dead lane would look free until its pings time out.
   */
  renew(): number {
    for (const lane of [...this.#parked]) lane.close();
    const room = Math.max(0, this.#options.maxLanes - this.#all.size);
    this.#coming = Math.min(room, Math.max(this.#options.parkedAtFirst, this.#waiting.size));
    return this.#coming;
  }

  /** A lane that the worker has opened. Null when there are enough. */
  adopt(socket: LaneSocket): Lane | null {
    this.#coming = Math.max(0, this.#coming - 1);
    if (this.#closed || this.#all.size >= this.#options.maxLanes) return null;
    const lane = new Lane(socket, this.#owner);
    this.#all.add(lane);
    this.#park(lane);
    return lane;
  }

  /** The route to an engine of this worker. Fails with `upstream_unreachable` without a lane. */
  upstream(engine: string): Upstream {
    return (request, sink) => {
      const exchange = new LaneExchange(engine, request, sink);
      // Else the worker would close the lane for what is the request's own fault.
      const fault = faultOf(request) ?? lengthFault(request);
      if (fault === null) this.#assign(exchange);
      else queueMicrotask(() => exchange.fail(fault));
      return exchange;
    };
  }

  /** Closes lanes that have been free for long; to be called now and then. */
  shrink(now: number): void {
    const { parkedAtFirst, shrinkAfterMs } = this.#options;
    for (const lane of [...this.#parked]) {
      if (this.#parked.length <= parkedAtFirst || now - lane.since < shrinkAfterMs) break;
      this.#target = Math.max(1, parkedAtFirst);
      lane.close();
    }
    // Lanes that were lost or never came are asked for again.
    this.#coming = Math.min(this.#coming, this.#waiting.size);
    if (this.#parked.length < parkedAtFirst) {
      this.#ask(parkedAtFirst - this.#parked.length - this.#coming);
    }
  }

  /** Closes every lane: their requests break. */
  close(): void {
    this.#closed = true;
    for (const lane of [...this.#all]) lane.close();
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const exchange of waiting) exchange.fail(unavailable());
    if (this.#sweeping !== null) clearTimeout(this.#sweeping);
  }

  #ask(count: number): void {
    const { maxLanes, mayGrow, requestMore } = this.#options;
    const room = Math.min(count, maxLanes - this.#all.size - this.#coming);
    if (room <= 0 || this.#closed || !mayGrow()) return;
    this.#coming += room;
    requestMore(room);
  }

  #park(lane: Lane): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#parked.push(lane);
      return;
    }
    this.#waiting.delete(next);
    lane.run(next);
  }

  #forget(lane: Lane): void {
    this.#all.delete(lane);
    this.#cancelled.delete(lane);
    const at = this.#parked.indexOf(lane);
    if (at !== -1) this.#parked.splice(at, 1);
  }

  #assign(exchange: LaneExchange): void {
    const lane = this.#parked.pop();
    if (lane === undefined) return this.#enqueue(exchange);
    const left = this.#parked.length;
    if (left < this.#target / 2) this.#ask(this.#target - left - this.#coming);
    lane.run(exchange);
  }

  #enqueue(exchange: LaneExchange): void {
    const { maxWaiting, maxLanes } = this.#options;
    const waiting = this.#waiting;
    if (this.#closed || waiting.size >= maxWaiting) {
      queueMicrotask(() => exchange.fail(unavailable()));
      return;
    }
    // Demand has outgrown what is kept free: twice as many from now on.
    this.#target = Math.min(2 * this.#target, maxLanes);
    this.#ask(Math.max(waiting.size + 1, this.#target) - this.#coming);
    exchange.waitIn({ abandoned: (gone) => waiting.delete(gone) });
    waiting.add(exchange);
    this.#sweepLater();
  }

  /** One timer for all that waits, and none while nothing does. */
  #sweepLater(): void {
    const { waitTimeoutMs, doneTimeoutMs } = this.#options;
    if (this.#closed || this.#waiting.size + this.#cancelled.size === 0) return;
    this.#sweeping ??= setTimeout(() => this.#sweep(), Math.min(waitTimeoutMs, doneTimeoutMs) / 4);
  }

  #sweep(): void {
    const { waitTimeoutMs, doneTimeoutMs } = this.#options;
    const now = performance.now();
    this.#sweeping = null;
    for (const exchange of this.#waiting) {
      if (now - exchange.since < waitTimeoutMs) break;
      this.#waiting.delete(exchange);
      exchange.fail(unavailable());
    }
    for (const lane of this.#cancelled) {
      if (now - lane.since < doneTimeoutMs) break;
      lane.close();
    }
    this.#sweepLater();
  }
}

function lengthFault({ path, fields }: HttpRequest): Error | null {
  if (path.length + fields.length <= MAX_LANE_HEAD_CHARS) return null;
  return Object.assign(new Error("the head of a request is too long for a lane"), {
    code: "EINVAL",
  });
}

function unavailable(): LlmnodeError {
  return new LlmnodeError("upstream_unreachable", "The worker has no free lane.");
}
