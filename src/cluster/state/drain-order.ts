/** What an operator ordered of one worker, as plain data that outlives the head. */

import type { DrainRow } from "../../protocol/watch-rows.ts";

/** A worker has one at a time. */
export interface DrainOrder extends Pick<DrainRow, "id" | "purpose" | "stage" | "who" | "message"> {
  /** The command that it came by, with those of other workers. */
  batch: string;
  workerId: string;
  workerName: string;
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
