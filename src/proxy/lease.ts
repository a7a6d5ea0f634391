/** What the proxy needs of whoever gives out replicas. */

import type { Leaving } from "./client-request.ts";
import type { Outcome } from "./failure.ts";
import type { Upstream } from "./upstream.ts";

/** What a request needs; plain data, as `cluster/want.ts` has it. */
export interface Want {
  /** Null: any model that an engine of these kinds has. */
  model: string | null;
  /** Models that will do where no replica of `model` can be had, the first one first. */
  fallbacks: readonly string[];
  /** A service in place of a model. */
  service: string | null;
  /** Whether it must not be tried elsewhere once it may have arrived. */
  once: boolean;
  /** Whether its answer comes bit by bit, so that a long silence says something. */
  stream: boolean;
  /** Whether `model: null` is for one model only: several are then a question to the client. */
  oneModel: boolean;
  /** Engine kinds that will do; null: any. */
  kinds: readonly string[] | null;
  /** A worker that the client insists on, by name or id. */
  worker: string | null;
  /** The life of an engine that alone will do; null: any. */
  engineRun: string | null;
  /** Only replicas that are known to have a longer context than this, in tokens; null: any. */
  minContext: number | null;
  /** Engines that this request has tried already, by key. */
  exclude: readonly string[];
  /** What the router may know of its prompt; null: it has none, and goes where least is to do. */
  prompt: PromptFacts | null;
  /** The client's name for a conversation; null: it gave none. */
  session: string | null;
  /** Who asks: places in a queue are shared fairly between parties. */
  party: string;
  /** Names the body; the same bytes for the same model have the same hash. Null: not known. */
  bodyHash: string | null;
  /** What is held for it while it waits. */
  bodyBytes: number;
  /** Whether the choice is to be explained. */
  explain: boolean;
}

/** A prompt as far as bytes tell it: no tokenizer is asked. */
export interface PromptFacts {
  /** Bytes that become tokens of the prompt. */
  bytes: number;
  /**
   * A chained hash of all that lies before each boundary, in two halves of 32 bits each, high half
   * first; empty: it is not looked for in caches.
   */
  hashes: Uint32Array;
  /** How many bytes of the prompt lie before each boundary, in ascending order. */
  ends: Uint32Array;
  /** The most tokens that the client wants back; null: it does not say. */
  maxTokens: number | null;
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
  /** The longest context that it takes, in tokens; null: not known. */
  readonly maxModelLen: number | null;
  /** Why this replica, in a line; null where nobody wanted to know. */
  readonly explanation: string | null;
  /** Set by the holder; called when the head takes the request away from this replica. */
  onRecall: ((kind: "move" | "fail") => void) | null;
  /** The engine's first byte is here. */
  started(): void;
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

export interface LeaseEnd {
  outcome: Outcome;
  /** What the engine said that the prompt was, and how much of it was in its cache; null: nothing. */
  promptTokens: number | null;
  cachedTokens: number | null;
  /** When the engine wants to be asked again; null: it did not say. */
  retryAfterMs: number | null;
}

/** Throws LlmnodeError when there is none to be had. */
export type Acquire = (want: Want, signal: Leaving) => Promise<Lease>;
