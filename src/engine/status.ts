/** What is known about an engine, as data: the shapes that the supervisor reports. */

/** Which inference server it is; `generic` is any other HTTP server that lists its models. */
export type EngineKind =
  | "vllm"
  | "sglang"
  | "tgi"
  | "tei"
  | "ollama"
  | "llama-server"
  | "trtllm"
  | "lmdeploy"
  | "dynamo"
  | "sim"
  | "generic";

export type EngineState =
  "starting" | "ready" | "suspect" | "unhealthy" | "stopping" | "backoff" | "failed" | "stopped";

export interface EngineModel {
  /** The name that clients use. Text from the engine: printable, at most 512 characters. */
  id: string;
  /** The base model of an adapter. */
  parent: string | null;
  /** In tokens. */
  maxModelLen: number | null;
  /** Whether the weights are in memory; null where the engine does not say. */
  loaded: boolean | null;
  /** What the engine's own list says beside this: a JSON object of at most 2 KiB, or nothing. */
  card?: string;
}

export interface EngineStatus {
  kind: EngineKind;
  /** Random id of this start of the engine; null before the first one. */
  run: string | null;
  state: EngineState;
  /** How far a start has come: `spawn`, `download`, `load`, `load 40%`, `compile`, `warmup`. */
  phase: string | null;
  /** Why the state is what it is, in words; null where the state says it all. */
  reason: string | null;
  /** Unix time in ms since which this state holds. */
  sinceMs: number;
  pid: number | null;
  port: number | null;
  /** As reached from this machine, for example `http://127.0.0.1:8080`; no slash at the end. */
  url: string | null;
  /** Whether only this machine can reach it; null while unknown. */
  loopbackOnly: boolean | null;
  /** How often the engine was started again after its first start. */
  restarts: number;
  /** What it serves; kept from the last good answer while it is unhealthy. */
  models: readonly EngineModel[];
  /** The model names in its command, known before it answers. */
  expectedModels: readonly string[];
}
