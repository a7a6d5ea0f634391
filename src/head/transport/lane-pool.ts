/** The lanes of one worker: which are free, how many there should be, who waits for one. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Upstream } from "../../proxy/request/upstream.ts";
import { createLane, type Lane, type LaneSocket } from "./lane.ts";

export interface LanePoolOptions {
  /** Asks the worker for more lanes. */
  wantMore: (count: number) => void;
  /** Lanes that are kept free. */
  parkedAtFirst: number;
  maxLanes: number;
  /** Whether the head as a whole may have another lane. */
  mayGrow: () => boolean;
  /** Requests that may wait for a lane. */
  maxWaiting: number;
  /** How long a request may wait for a lane. */
  waitTimeoutMs: number;
  /** Free lanes beyond `parkedAtFirst` are closed after so long. */
  shrinkAfterMs: number;
  doneTimeoutMs: number;
}

export interface LanePool {
  readonly lanes: number;
  readonly parked: number;
  /**
   * Closes the free lanes of a worker that has come anew, whose way here may be another now, and
   * returns how many it should open. A dead lane would look free until its pings time out.
   */
  renew(): number;
  /** A lane that the worker has opened. Null when there are enough. */
  adopt(socket: LaneSocket): Lane | null;
  /** The way to an engine of this worker. Rejects with LANE_UNAVAILABLE when no lane can be had. */
  upstream(engine: string): Upstream;
  /** Closes what has been free for long; to be called now and then. */
  shrink(now: number): void;
  /** Closes every lane: their requests break. */
  close(): void;
}

export function createLanePool(options: LanePoolOptions): LanePool {
  const all = new Set<Lane>();
  /** The longest free first. */
  const parked = new Map<Lane, number>();
  const waiting: PromiseWithResolvers<Lane>[] = [];
  /** Lanes that the worker was asked for and has not opened yet. */
  let coming = 0;
  let target = Math.max(1, options.parkedAtFirst);
  let closed = false;

  const ask = (count: number) => {
    const room = Math.min(count, options.maxLanes - all.size - coming);
    if (room <= 0 || closed || !options.mayGrow()) return;
    coming += room;
    options.wantMore(room);
  };

  const park = (lane: Lane) => {
    const next = waiting.shift();
    if (next) next.resolve(lane);
    else parked.set(lane, performance.now());
  };

  const acquire = async (signal: AbortSignal): Promise<Lane> => {
    for (const lane of [...parked.keys()].reverse()) {
      parked.delete(lane);
      if (parked.size < target / 2) ask(target - parked.size - coming);
      if (lane.state === "parked") return lane;
    }
    if (closed || waiting.length >= options.maxWaiting) throw unavailable();
    // Demand has outgrown what is kept free: twice as many from now on.
    target = Math.min(2 * target, options.maxLanes);
    ask(Math.max(waiting.length + 1, target) - coming);
    const turn = Promise.withResolvers<Lane>();
    waiting.push(turn);
    const leave = (error: unknown) => {
      const at = waiting.indexOf(turn);
      if (at !== -1) waiting.splice(at, 1);
      turn.reject(error);
    };
    const abort = () => leave(signal.reason);
    signal.addEventListener("abort", abort);
    const timer = setTimeout(() => leave(unavailable()), options.waitTimeoutMs);
    try {
      return await turn.promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  };

  return {
    get lanes() {
      return all.size;
    },
    get parked() {
      return parked.size;
    },
    renew() {
      for (const lane of [...parked.keys()]) lane.close();
      const room = Math.max(0, options.maxLanes - all.size);
      coming = Math.min(room, Math.max(options.parkedAtFirst, waiting.length));
      return coming;
    },
    adopt(socket) {
      coming = Math.max(0, coming - 1);
      if (closed || all.size >= options.maxLanes) return null;
      const lane = createLane({
        socket,
        doneTimeoutMs: options.doneTimeoutMs,
        onParked: park,
        onClosed(gone) {
          all.delete(gone);
          parked.delete(gone);
        },
      });
      all.add(lane);
      park(lane);
      return lane;
    },
    upstream: (engine) => async (request) => {
      const lane = await acquire(request.signal);
      return await lane.run(request, engine);
    },
    shrink(now) {
      for (const [lane, since] of parked) {
        if (parked.size <= options.parkedAtFirst || now - since < options.shrinkAfterMs) break;
        target = Math.max(1, options.parkedAtFirst);
        lane.close();
      }
      // Lanes that were lost or never came are asked for again.
      coming = Math.min(coming, waiting.length);
      if (parked.size < options.parkedAtFirst) ask(options.parkedAtFirst - parked.size - coming);
    },
    close() {
      closed = true;
      for (const lane of [...all]) lane.close();
      for (const turn of waiting.splice(0)) turn.reject(unavailable());
    },
  };
}

function unavailable(): LlmnodeError {
  return new LlmnodeError("upstream_unreachable", "The worker has no free lane.");
}
