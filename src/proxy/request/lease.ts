/** What the proxy needs of the part that gives out replicas. */

import type { LeaseEnd, ReplicaRequest } from "../../protocol/replica-request.ts";
import type { CancelSignal } from "./client-request.ts";
import type { Upstream } from "../../util/http/exchange.ts";

/** One request's hold on a replica. */
export interface Lease {
  /** The engine's key, and the name of its present life. */
  readonly engine: string;
  readonly engineRun: string;
  readonly engineKind: string;
  /** The worker's name, as clients may see it. */
  readonly worker: string;
  readonly model: string;
  readonly upstream: Upstream;
  /** What the engine wants as bearer. */
  readonly apiKey: string | null;
  /** The `Host` that the engine insists on; null: the one of its address. */
  readonly hostHeader: string | null;
  /** The longest context that it takes, in tokens; null: not known. */
  readonly maxModelLen: number | null;
  /** Why this replica, in a line; null where it was not asked for. */
  readonly explanation: string | null;
  /** Set by the holder; called when the head takes the request away from this replica. */
  onReschedule: ((kind: "move" | "fail") => void) | null;
  /** The engine's first byte is here. */
  started(): void;
  /** Something came of the answer; called for every piece. */
  progress(): void;
  /** Whether the engine's next byte is waited for, or the client; true at first. */
  reading(isReading: boolean): void;
  /**
   * After a break: whether the engine ended while it had this request. False too where that does not
   * become known soon.
   */
  died(): Promise<boolean>;
  /** Gives the replica back; only the first call counts. */
  release(end: LeaseEnd): void;
}

/** At once where one is free, which most are. Throws or rejects with LlmnodeError when there is none to be had. */
export type Acquire = (wanted: ReplicaRequest, signal: CancelSignal) => Lease | Promise<Lease>;
