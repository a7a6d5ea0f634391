/** What the head answers to viewers of the cluster: `GET /api/v1/watch`, `status`, `requests`, `events`. */

// One shape for `llmnode top`, the commands and the status page. Names are snake_case with their
// units, unknown is null, and later versions only add.

import type {
  EventRow,
  ModelRow,
  Quantiles,
  RequestRow,
  View,
  WorkerDetail,
  WorkerRow,
} from "./watch-rows.ts";

export const WATCH_SCHEMA = "llmnode.watch/1";
export const STATUS_SCHEMA = "llmnode.status/2";

/** What one viewer asks for. */
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
  head: {
    id: string;
    uptime_ms: number;
    cpu_pct: number | null;
    mem_used_bytes: number | null;
  };
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
  detail: { worker: WorkerDetail } | { model: ModelRow } | null;
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

/** `GET /api/v1/status`: the same rows with their details, all of them. */
export interface StatusJson {
  schema: typeof STATUS_SCHEMA;
  head: Pick<HeadFacts, "id" | "version" | "time" | "uptime_ms">;
  workers: WorkerDetail[];
  models: ModelRow[];
  /** HTTP servers that are asked for by name; the figures are those of models. */
  services: ModelRow[];
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
