/** What an operator ordered of one worker, as plain data that outlives the head. */

export interface DrainOrder {
  /** Names the order; a worker has one at a time. */
  id: string;
  /** The command that it came by, with those of other workers. */
  batch: string;
  workerId: string;
  workerName: string;
  /** `drain`: no requests until it is taken back. `restart`: until its engine has started again. */
  purpose: "drain" | "restart";
  /**
   * `queued`: a restart that waits for those before it; the worker serves meanwhile.
   * `draining`: it takes no new requests. `restarting`: nor does its engine, which starts again.
   */
  stage: "queued" | "draining" | "restarting";
  /** Who ordered it, and what for, in their own words. */
  who: string;
  message: string | null;
  /** When it was ordered, and its place among those of the same moment. Unix milliseconds. */
  since: number;
  place: number;
  /** How long running requests may go on. */
  patienceMs: number;
  /** When those that still run are ended, in Unix milliseconds; null while it is queued. */
  deadline: number | null;
  /** Whether a model may be without a ready replica meanwhile. */
  force: boolean;
  /** The engine that is to start again, and its run from before; null until it is told to. */
  engine: string | null;
  engineRun: string | null;
  /** Requests that were ended at the deadline. */
  cutOff: number;
}
