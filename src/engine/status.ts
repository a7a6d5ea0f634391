/** What is known about an engine, as data: the shapes that the supervisor reports. */

import type { FailureClass } from "./failure.ts";

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
  /** How far a start has come: `pull` (of an image), `spawn`, `pull`, `download 3.2 GiB`, `load 40%`, `compile`, `warmup`. */
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
  /** Whether an earlier life of the worker started it, and this one took it over while it ran. */
  adopted: boolean;
  /** What it serves; kept from the last good answer while it is unhealthy. */
  models: readonly EngineModel[];
  /** The model names in its command, known before it answers. */
  expectedModels: readonly string[];
  /** Name or short id of the container that it runs in; null: none, or not known yet. */
  container: string | null;
  /** Requests that it should have at once; null until its command or its own word tells. */
  maxInFlight: number | null;
  /** The UUIDs of the GPUs that it may use; empty: all of the machine, or it is not known. */
  gpus: readonly string[];
  /** GPUs that its command asks for; null where it does not tell. */
  gpusWanted: number | null;
  /** The name under which it is offered as a plain HTTP server; null: it serves models. */
  service: string | null;
  /** The `Host` that requests to it must have; null: any. */
  hostHeader: string | null;
  /** Why it ended last, until it is ready again; `reason` says it in words. */
  failure: FailureClass | null;
  /** What to do about that; null where nothing is known to help. */
  hint: string | null;
  /** The log's lines that show it, oldest first; safe to print. */
  evidence: readonly string[];
  /** Unix time in ms since which a start is in its phase; null unless it starts. */
  phaseSinceMs: number | null;
}
