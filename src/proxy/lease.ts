/** What the proxy needs of whoever gives out replicas. */

import type { Outcome } from "./failure.ts";
import type { Upstream } from "./upstream.ts";

/** What a request needs; plain data. */
export interface Want {
  /** Null: any model that an engine of these kinds has. */
  model: string | null;
  /** A service in place of a model. */
  service: string | null;
  /** Whether it must not be tried elsewhere once it may have arrived. */
  once: boolean;
  /** Whether `model: null` is for one model only: several are then a question to the client. */
  oneModel: boolean;
  /** Engine kinds that will do; null: any. */
  kinds: readonly string[] | null;
  /** A worker that the client insists on, by name or id. */
  worker: string | null;
  /** Engines that the request has tried, by key. */
  exclude: readonly string[];
}

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
  /** Set by the holder; called when the head takes the request away from this replica. */
  onRecall: ((kind: "move" | "fail") => void) | null;
  /** The engine's first byte is here. */
  started(): void;
  progress(): void;
  /** Gives the replica back; only the first call counts. */
  release(outcome: Outcome): void;
}

/** Throws LlmnodeError when there is none to be had. */
export type Acquire = (want: Want, signal: AbortSignal) => Promise<Lease>;
