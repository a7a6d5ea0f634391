/** What is known about an engine, as data: the shapes that the supervisor reports. */

import type { EngineReport } from "../protocol/engine-report.ts";
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

/** What is reported of it, and what only its own machine needs to know. */
export interface EngineStatus extends Omit<
  EngineReport,
  "run" | "kind" | "failure" | "https" | "advertise" | "apiKey"
> {
  /** Random id of this start of the engine; null before the first one. */
  run: string | null;
  kind: EngineKind;
  failure: FailureClass | null;
  /** As reached from this machine, for example `http://127.0.0.1:8080`; no slash at the end. */
  url: string | null;
  /** What it serves; kept from the last good answer while it is unhealthy. */
  models: readonly EngineModel[];
}
