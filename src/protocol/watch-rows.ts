/** One row each of what there is to look at: workers, models, requests, events. */

// Names are snake_case with their units, unknown is null, and later versions only add.

export const VIEWS = ["workers", "models", "requests", "events"] as const;
export type View = (typeof VIEWS)[number];

/** Of the last minute. */
export interface Quantiles {
  p50: number;
  p95: number;
}

/** What a worker or an engine is in, in one word; the mark is in `STATE_MARKS`. */
export type RowState =
  | "ready"
  | "starting"
  | "draining"
  | "drained"
  | "suspect"
  | "unhealthy"
  | "failed"
  | "stale"
  | "lost"
  | "left";

export const STATE_MARKS: Readonly<Record<RowState, string>> = {
  ready: "*",
  starting: "~",
  draining: "-",
  drained: "-",
  suspect: "!",
  unhealthy: "!",
  failed: "!",
  stale: "?",
  lost: "x",
  left: " ",
};

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
  via: string | null;
  address: string;
  version: string;
  labels: Record<string, string>;
  /** A drain that an operator ordered. */
  drain: {
    since: string;
    deadline: string | null;
    by: string | null;
    message: string | null;
  } | null;
  /** With a detail only: each engine, and output tokens per second of the last 2 minutes. */
  engines: EngineRow[] | null;
  sparkline: (number | null)[] | null;
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

export interface EngineRow {
  /** `worker/1`. */
  name: string;
  kind: string;
  state: RowState;
  state_detail: string | null;
  phase: string | null;
  phase_ms: number | null;
  /** 0 to 100, by the engine's own log; null: it does not say. */
  progress_pct: number | null;
  reason: string | null;
  hint: string | null;
  evidence: readonly string[];
  models: readonly string[];
  in_flight: number;
  queue: number | null;
  kv_pct: number | null;
  max_in_flight: number | null;
  output_tokens_per_s: number | null;
  ttft_ms: Quantiles | null;
  restarts: number;
  pid: number | null;
  container: string | null;
  port: number | null;
  via: string | null;
  since_ms: number;
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
  route: string;
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
  /** Counts all events of this life of the head. */
  id: number;
  time: string;
  level: "info" | "warn" | "error";
  kind: EventKind;
  worker: string | null;
  model: string | null;
  text: string;
}

/** What rows can be chosen and sorted by. */
export const WATCH_ROW_FIELDS: Readonly<Record<View, readonly string[]>> = {
  workers: [
    "id",
    "name",
    "state",
    "state_detail",
    "reason",
    "models",
    "gpu_util_pct",
    "gpu_mem_used_bytes",
    "gpu_mem_total_bytes",
    "temp_c",
    "power_w",
    "in_flight",
    "queue",
    "kv_pct",
    "requests_per_s",
    "output_tokens_per_s",
    "ttft_ms",
    "uptime_ms",
    "seen_ms",
    "via",
    "address",
    "version",
    "labels",
  ],
  models: [
    "name",
    "alias_of",
    "state",
    "ready",
    "starting",
    "draining",
    "replicas",
    "kinds",
    "in_flight",
    "queued",
    "requests_per_s",
    "output_tokens_per_s",
    "ttft_ms",
    "itl_ms",
    "context",
    "error_ratio",
    "workers",
  ],
  requests: [
    "id",
    "age_ms",
    "phase",
    "route",
    "model",
    "worker",
    "engine",
    "key",
    "stream",
    "input_tokens",
    "output_tokens",
    "output_tokens_per_s",
    "ttft_ms",
    "queue_ms",
    "attempts",
  ],
  events: ["id", "time", "level", "kind", "worker", "model", "text"],
};
