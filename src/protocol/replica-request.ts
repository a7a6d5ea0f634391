/** What a request needs, as plain data: another process could ask with it; and how that ended. */

export interface ReplicaRequest {
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
  /** Who asks: places in a queue are shared fairly between callers. */
  caller: string;
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

/** How an attempt at an engine ended. */
export type LeaseOutcome =
  | "ok"
  /** The engine answered that the request is wrong. */
  | "rejected"
  /** The engine has no room now (429, 503). */
  | "busy"
  /** The engine refused the key that its worker gave (401, 403). */
  | "auth"
  /** What stands before the engine could not reach it (502, 504). */
  | "bad_gateway"
  /** The engine answered 5xx, or an error in the first frame. */
  | "engine_error"
  /** The connection could not be made. */
  | "unreachable"
  /** The connection broke before the answer was whole. */
  | "broken"
  /** The head took the request away. */
  | "rescheduled"
  /** The client took no byte for too long. */
  | "slow_client"
  | "client_gone";

/** What a lease is given back with. */
export interface LeaseEnd {
  outcome: LeaseOutcome;
  /** What the engine said that the prompt was, and how much of it was in its cache; null: nothing. */
  promptTokens: number | null;
  cachedTokens: number | null;
  /** When the engine wants to be asked again; null: it did not say. */
  retryAfterMs: number | null;
}

const SERVICE_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** OpenTela's name for all models: its paths are those of models. */
export const ALL_MODELS = "llm";

/** Whether a worker may offer a service by this name, which is a part of paths as it stands. */
export function isServiceName(text: string): boolean {
  return SERVICE_NAME.test(text) && text !== ALL_MODELS;
}
