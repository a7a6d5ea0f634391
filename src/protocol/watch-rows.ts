/** The public shape of the cluster: one row each for workers, engines, models, requests and events. */

import type { ShownReport } from "./engine-report.ts";

// Names are snake_case with their units, unknown is null, and later versions only add.

export const VIEWS = ["workers", "models", "requests", "events"] as const;
export type View = (typeof VIEWS)[number];

/** Of the last minute. */
export interface Quantiles {
  p50: number;
  p95: number;
}

/** What a worker or an engine is in, in one word, with its mark; worst first. */
export const STATE_MARKS = {
  lost: "x",
  failed: "!",
  stale: "?",
  unhealthy: "!",
  suspect: "!",
  starting: "~",
  draining: "-",
  drained: "-",
  ready: "*",
  left: " ",
};
export type RowState = keyof typeof STATE_MARKS;

export interface WorkerRow {
  id: string;
  name: string;
  state: RowState;
  /** A few words beside the state: `load 62%`, `12 left`, `exit 1 x5`, `42s`. */
  state_detail: string | null;
  reason: string | null;
  /** The names of its models, each once, and how many engines have it. */
  models: { name: string; engines: number }[];
  gpus: GpuRow[];
  gpu_problem: string | null;
  /** Of all its GPUs together. */
  gpu_util_pct: number | null;
  gpu_mem_used_bytes: number | null;
  gpu_mem_total_bytes: number | null;
  temp_c: number | null;
  power_w: number | null;
  in_flight: number;
  /** Waiting inside its engines. */
  queue: number | null;
  kv_pct: number | null;
  requests_per_s: number | null;
  output_tokens_per_s: number | null;
  ttft_ms: Quantiles | null;
  uptime_ms: number | null;
  /** Since it was last heard. */
  seen_ms: number;
  /** How requests reach it: "direct", "lane", "unreachable"; null while that is not known. */
  route: string | null;
  address: string;
  version: string;
  labels: Record<string, string>;
  /** What an operator ordered of it. */
  drain: DrainRow | null;
  /** With a detail only. */
  host: HostRow | null;
  engines: EngineRow[] | null;
  /** Output tokens per second of the last 2 minutes. */
  sparkline: (number | null)[] | null;
}

export interface WorkerDetail extends WorkerRow {
  gpus: GpuDetail[];
  engines: EngineRow[];
  sparkline: (number | null)[];
}

export interface GpuRow {
  index: number;
  uuid: string;
  name: string;
  util_pct: number | null;
  mem_used_bytes: number | null;
  mem_total_bytes: number | null;
  temp_c: number | null;
  power_w: number | null;
}

export interface GpuDetail extends GpuRow {
  power_limit_w: number | null;
  /** What the worker's engine has of its memory. */
  engine_mem_bytes: number | null;
  /** Shares the machine's memory: the memory figures are the machine's. */
  unified: boolean;
  /** Of a MIG instance: the UUID of its GPU. */
  mig_parent: string | null;
  /** Since it was measured. */
  age_ms: number;
}

export interface HostRow {
  cpu_pct: number | null;
  mem_used_bytes: number | null;
  mem_total_bytes: number | null;
  /** Where models are kept. */
  disk_free_bytes: number | null;
  net_rx_bytes_per_s: number | null;
  net_tx_bytes_per_s: number | null;
  /** Since it was measured. */
  age_ms: number;
}

/** An operator's order about a worker. */
export interface DrainRow {
  id: string;
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
  since: string;
  /** When requests that still run are ended; null while a restart waits for its turn. */
  deadline: string | null;
  /** The engine that is to start again; null for a drain. */
  engine: string | null;
  /** Requests that were ended at the deadline. */
  cut_off: number;
}

/** What its worker reports, and what the head knows beside that. */
export interface EngineRow extends ShownReport {
  /** `worker/1`. */
  name: string;
  worker: string;
  /** Its worker's state where that is worse; `engine_state` is its own. */
  state: RowState;
  state_detail: string | null;
  /** 0 to 100, by the engine's own log; null: it does not say. */
  progress_pct: number | null;
  models: readonly string[];
  /** The numbers of its GPUs; null: none, or not known. */
  gpus: number[] | null;
  in_flight: number;
  /** By the engine's own word: what it runs, what waits inside it, and its cache. */
  running: number | null;
  queue: number | null;
  kv_pct: number | null;
  prefix_hit_tokens: number | null;
  prefix_query_tokens: number | null;
  /** How old those are. */
  load_age_ms: number | null;
  output_tokens_per_s: number | null;
  ttft_ms: Quantiles | null;
  route: string | null;
  replicas: ReplicaRow[];
}

/** An engine's part in a model, or in the service that it is. */
export interface ReplicaRow {
  name: string;
  state: string;
  in_flight: number;
}

export interface ModelRow {
  name: string;
  /** Where an alias leads; null: it is a model. */
  alias_of: string | null;
  state: RowState;
  ready: number;
  starting: number;
  draining: number;
  replicas: number;
  kinds: string[];
  in_flight: number;
  /** Waiting at the head. */
  queued: number;
  requests_per_s: number | null;
  output_tokens_per_s: number | null;
  ttft_ms: Quantiles | null;
  itl_ms: Quantiles | null;
  /** Tokens. */
  context: number | null;
  error_ratio: number | null;
  /** Names of the workers that have it. */
  workers: string[];
  /** With a detail only. */
  engines: EngineRow[] | null;
}

export type RequestPhase = "queued" | "prefill" | "decode" | "retry";

/** A request that runs. Never what was asked or answered. */
export interface RequestRow {
  id: string;
  age_ms: number;
  phase: RequestPhase;
  /** Of its URL. */
  path: string;
  model: string | null;
  worker: string | null;
  engine: string | null;
  /** The id of its API key; null: none. */
  key: string | null;
  stream: boolean;
  /** Reckoned from bytes until the engine says it. */
  input_tokens: number | null;
  output_tokens: number;
  output_tokens_per_s: number | null;
  ttft_ms: number | null;
  queue_ms: number;
  attempts: number;
  /** What has become of it so far, the latest last. */
  timeline: { at_ms: number; text: string }[];
}

export type EventKind =
  | "joined"
  | "left"
  | "stale"
  | "lost"
  | "back"
  | "ready"
  | "starting"
  | "crashed"
  | "failed"
  | "draining"
  | "drained"
  | "undrained"
  | "restarted"
  | "stalled"
  | "retried"
  | "resumed"
  | "refused"
  | "cancelled"
  | "changed"
  | "head";

export interface EventRow {
  /** Counts all events of this run of the head. */
  id: number;
  time: string;
  level: "info" | "warn" | "error";
  kind: EventKind;
  worker: string | null;
  model: string | null;
  text: string;
}
