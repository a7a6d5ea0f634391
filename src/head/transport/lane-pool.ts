/** The lanes of one worker: which are free, how many there should be, what waits for one. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Upstream } from "../../proxy/request/upstream.ts";
import { Lane, type LaneSocket } from "./lane.ts";

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
  /** The longest free first. */
  readonly #parked = new Map<Lane, number>();
  readonly #waiting: PromiseWithResolvers<Lane>[] = [];
  /** Lanes that the worker was asked for and has not opened yet. */
  #coming = 0;
  #target: number;
  #closed = false;

  constructor(options: LanePoolOptions) {
    this.#options = options;
    this.#target = Math.max(1, options.parkedAtFirst);
  }

  get lanes(): number {
    return this.#all.size;
  }

  get parked(): number {
    return this.#parked.size;
  }

  /**
   * Closes the free lanes of a worker that has connected again, perhaps over another network path,
   * and returns how many it should open. A dead lane would look free until its pings time out.
   */
  renew(): number {
    for (const lane of [...this.#parked.keys()]) lane.close();
    const room = Math.max(0, this.#options.maxLanes - this.#all.size);
    this.#coming = Math.min(room, Math.max(this.#options.parkedAtFirst, this.#waiting.length));
    return this.#coming;
  }

  /** A lane that the worker has opened. Null when there are enough. */
  adopt(socket: LaneSocket): Lane | null {
    const { maxLanes, doneTimeoutMs } = this.#options;
    this.#coming = Math.max(0, this.#coming - 1);
    if (this.#closed || this.#all.size >= maxLanes) return null;
    const lane = new Lane({
      socket,
      doneTimeoutMs,
      onParked: (parked) => this.#park(parked),
      onClosed: (closed) => {
        this.#all.delete(closed);
        this.#parked.delete(closed);
      },
    });
    this.#all.add(lane);
    this.#park(lane);
    return lane;
  }

  /** The route to an engine of this worker. Rejects with `upstream_unreachable` without a lane. */
  upstream(engine: string): Upstream {
    return async (request) => {
      const lane = await this.#acquire(request.signal);
      return await lane.run(request, engine);
    };
  }

  /** Closes lanes that have been free for long; to be called now and then. */
  shrink(now: number): void {
    const { parkedAtFirst, shrinkAfterMs } = this.#options;
    for (const [lane, since] of this.#parked) {
      if (this.#parked.size <= parkedAtFirst || now - since < shrinkAfterMs) break;
      this.#target = Math.max(1, parkedAtFirst);
      lane.close();
    }
    // Lanes that were lost or never came are asked for again.
    this.#coming = Math.min(this.#coming, this.#waiting.length);
    if (this.#parked.size < parkedAtFirst) {
      this.#ask(parkedAtFirst - this.#parked.size - this.#coming);
    }
  }

  /** Closes every lane: their requests break. */
  close(): void {
    this.#closed = true;
    for (const lane of [...this.#all]) lane.close();
    for (const turn of this.#waiting.splice(0)) turn.reject(unavailable());
  }

  #ask(count: number): void {
    const { maxLanes, mayGrow, requestMore } = this.#options;
    const room = Math.min(count, maxLanes - this.#all.size - this.#coming);
    if (room <= 0 || this.#closed || !mayGrow()) return;
    this.#coming += room;
    requestMore(room);
  }

  #park(lane: Lane): void {
    const next = this.#waiting.shift();
    if (next) next.resolve(lane);
    else this.#parked.set(lane, performance.now());
  }

  async #acquire(signal: AbortSignal): Promise<Lane> {
    for (const lane of [...this.#parked.keys()].reverse()) {
      this.#parked.delete(lane);
      const { size } = this.#parked;
      if (size < this.#target / 2) this.#ask(this.#target - size - this.#coming);
      if (lane.state === "parked") return lane;
    }
    return await this.#waitForLane(signal);
  }

  async #waitForLane(signal: AbortSignal): Promise<Lane> {
    const { maxWaiting, maxLanes, waitTimeoutMs } = this.#options;
    const waiting = this.#waiting;
    if (this.#closed || waiting.length >= maxWaiting) throw unavailable();
    // Demand has outgrown what is kept free: twice as many from now on.
    this.#target = Math.min(2 * this.#target, maxLanes);
    this.#ask(Math.max(waiting.length + 1, this.#target) - this.#coming);
    const turn = Promise.withResolvers<Lane>();
    waiting.push(turn);
    const leave = (error: unknown) => {
      const at = waiting.indexOf(turn);
      if (at !== -1) waiting.splice(at, 1);
      turn.reject(error);
    };
    const abort = () => leave(signal.reason);
    signal.addEventListener("abort", abort);
    const timer = setTimeout(() => leave(unavailable()), waitTimeoutMs);
    try {
      return await turn.promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }
}

function unavailable(): LlmnodeError {
  return new LlmnodeError("upstream_unreachable", "The worker has no free lane.");
}
