/** An operator's order about a worker, as JSON that leaves the process. */

import type { DrainOrder } from "../state/drain-order.ts";

export interface DrainJson {
  /** Names the order. */
  id: string;
  /** "drain" or "restart". */
  purpose: string;
  /** "queued", "draining" or "restarting". */
  stage: string;
  who: string;
  message: string | null;
  since: string;
  /** When requests that still run are ended; null while a restart waits for its turn. */
  deadline: string | null;
  /** The engine that is to start anew; null for a drain. */
  engine: string | null;
  /** Requests that were ended at the deadline. */
  cut_off: number;
}

export function drainJson(order: DrainOrder): DrainJson {
  return {
    id: order.id,
    purpose: order.purpose,
    stage: order.stage,
    who: order.who,
    message: order.message,
    since: new Date(order.since).toISOString(),
    deadline: order.deadline === null ? null : new Date(order.deadline).toISOString(),
    engine: order.engine,
    cut_off: order.cutOff,
  };
}
