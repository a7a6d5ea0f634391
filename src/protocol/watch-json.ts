/** What the head tells those who look at the cluster: `GET /api/v1/watch`, `requests`, `events`. */

// One shape for `llmnode top`, the commands and the status page. Names are snake_case with their
// units, unknown is null, and later versions only add.

export const WATCH_SCHEMA = "llmnode.watch/1";

export const VIEWS = ["workers", "models", "requests", "events"] as const;
export type View = (typeof VIEWS)[number];

/** What one viewer looks at. */
export interface WatchQuery {
  view: View;
  /** A row's field, `-` in front for descending; `problems` puts what needs a person first. */
  sort: string;
  /** In the grammar of `protocol/filter.ts`; empty: all. */
  filter: string;
  /** The window of rows. */
  offset: number;
  limit: number;
  /** Between two frames. */
  interval_ms: number;
  /** Whether workers that have left are shown. */
  gone: boolean;
  /** How many models are wanted beside the rows, the busiest first; at most 50. */
  models_beside: number;
  /** A worker (by name) or a model of which the detail is wanted with every frame; null: none. */
  detail: string | null;
}

/** Event `hello`: the first of a stream. */
export interface WatchHello {
  schema: typeof WATCH_SCHEMA;
  /** Names this stream, for `POST /api/v1/watch/<id>` with another query. */
  watch: string;
  head: HeadFacts;
  /** What this viewer may do. */
  role: "viewer" | "operator";
  query: WatchQuery;
  /** The last 15 minutes, one point every `interval_ms`, the oldest first. */
  history: HistoryJson;
}

export interface HeadFacts {
  id: string;
  version: string;
  /** RFC 3339, by the head's clock. */
  time: string;
  uptime_ms: number;
  /** Where clients and workers reach it, as far as it knows. */
  api_url: string;
  session_port: number;
}

/** Event `frame`: one every interval, and at once after a new query. */
export interface WatchFrame {
  schema: typeof WATCH_SCHEMA;
  /** Counts the frames of this stream from 1. */
  frame: number;
  time: string;
  head: { id: string; uptime_ms: number; cpu_percent: number | null; memory_bytes: number | null };
  totals: TotalsJson;
  /** One mark for each worker, in the order of their names; at most 1000. */
  strip: string;
  view: View;
  /** Rows of the view: all, those that pass the filter, and the window of them. */
  total: number;
  matching: number;
  offset: number;
  rows: WorkerRow[] | ModelRow[] | RequestRow[] | EventRow[];
  /** As many as the query wants, the busiest first. */
  models_beside: ModelRow[];
  /** What is wrong with the filter, if anything: then the one before goes on to hold. */
  filter_problem: { message: string; at: number } | null;
  /** The newest events, the latest last; at most 20. */
  events: EventRow[];
  /** What needs a person, worst first, in a line each; at most 5. */
  attention: { worker: string | null; model: string | null; text: string }[];
  /** The newest point of the history, when there is one since the last frame. */
  point: HistoryPoint | null;
  /** The wanted detail; null where there is none, or it is gone. */
  detail: { worker: WorkerRow } | { model: ModelRow } | null;
}

/** Event `lag`: so many frames were left out, since they were not read. */
export interface WatchLag {
  dropped: number;
}

export interface TotalsJson {
  workers: {
    total: number;
    ready: number;
    starting: number;
    draining: number;
    stale: number;
    lost: number;
    failed: number;
  };
  gpus: {
    total: number;
    /** On workers that are ready. */
    ready: number;
    /** The commonest name, for a header. */
    name: string | null;
    util_pct: number | null;
    mem_used_bytes: number | null;
    mem_total_bytes: number | null;
    power_w: number | null;
  };
  models: { total: number; ready: number };
  replicas: { total: number; ready: number };
  requests_per_s: number | null;
  input_tokens_per_s: number | null;
  output_tokens_per_s: number | null;
  ttft_ms: Quantiles | null;
  itl_ms: Quantiles | null;
  in_flight: number;
  /** Waiting at the head. */
  queued: number;
  /** Of the last minute, 0 to 1. */
  error_ratio: number | null;
  /** In the last minute. */
  retries: number;
  resumed: number;
  /** Client addresses or keys with a request in the last minute. */
  clients: number | null;
}

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
  evidence: string[];
  models: string[];
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

export const EVENT_KINDS = [
  "joined",
  "left",
  "stale",
  "lost",
  "back",
  "ready",
  "starting",
  "crashed",
  "failed",
  "draining",
  "drained",
  "undrained",
  "restarted",
  "stalled",
  "retried",
  "resumed",
  "refused",
  "cancelled",
  "changed",
  "head",
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

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

export interface HistoryPoint {
  output_tokens_per_s: number | null;
  ttft_p95_ms: number | null;
  in_flight: number;
  queued: number;
}

export interface HistoryJson {
  interval_ms: number;
  points: HistoryPoint[];
}

/** `GET /api/v1/requests` */
export interface RequestsJson {
  schema: "llmnode.requests/1";
  head: { id: string; time: string };
  total: number;
  requests: RequestRow[];
}

/** `GET /api/v1/events?after=<id>&since_ms=<n>` */
export interface EventsJson {
  schema: "llmnode.events/1";
  head: { id: string; time: string };
  events: EventRow[];
}
