/** What is known of one request when it is over: for the log, the metrics and the traces. */

import type { Trace } from "../../util/traceparent.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import type { Usage } from "./usage.ts";

export interface AttemptRecord {
  worker: string;
  /** Its number among those of its worker. */
  engine: string;
  engineKind: string;
  /** The model's name at the replica. */
  model: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  endedAt: number;
  /** The engine's first data, in milliseconds since 1970; null when none came. */
  firstByteAt: number | null;
  outcome: LeaseOutcome;
  /** The engine's status; null when it gave none. */
  status: number | null;
  /** Why this replica, in a line; null where it was not asked for. */
  explanation: string | null;
  /** Its span; null while nothing is traced. */
  spanId: string | null;
}

/** What came of a stream's break. */
export type ResumeResult =
  /** Another replica went on. */
  | "resumed"
  /** What was asked, or what had been answered, is nothing that can be continued there. */
  | "not_possible"
  | "no_replica"
  /** The replica refused to continue, or broke off before it did. */
  | "failed";

export interface RequestRecord {
  id: string;
  /** Milliseconds since 1970. */
  startedAt: number;
  durationMs: number;
  method: string;
  /** The route's path, never the client's own text. */
  route: string;
  operation: string;
  /** Null: no stream broke, or it was none that might have gone on. */
  resume: ResumeResult | null;
  /** As the client asked for it; null when that was not found out. */
  model: string | null;
  /** Whether that name is an alias; the attempts say which models it led to. */
  alias: boolean;
  /** Whether some replica is or was known by that name: only then may it be a metric's label. */
  modelKnown: boolean;
  stream: boolean;
  /** What the client got: 499 when it left. */
  status: number;
  /** The code of our error, or the engine's words for its own; null for a good end. */
  error: string | null;
  attempts: AttemptRecord[];
  /** Waiting for a replica, all attempts together. */
  queueMs: number;
  /** Waiting for the client's body. */
  bodyMs: number;
  /** From the request's arrival to the engine's first data; null when none came. */
  firstByteMs: number | null;
  bytesIn: number;
  /** Of what becomes tokens of a prompt; null: there is none, or it was not read. */
  promptBytes: number | null;
  bytesOut: number;
  /** Pieces of the answer that were passed on. */
  chunks: number;
  usage: Usage | null;
  /** Whether `usage.output` was counted from the pieces: the engine did not come to say it. */
  usageEstimated: boolean;
  finishReason: string | null;
  clientAddress: string;
  /** The API key that it came with; null: none. */
  key: { id: string; name: string | null } | null;
  traceparent: string | null;
  /** Null while nothing is traced. */
  trace: Trace | null;
  /** The beginning of what was asked and the end of what was answered, where that is wanted. */
  bodies: { request: string; answer: string } | null;
}
