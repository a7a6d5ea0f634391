/** Counts finished requests: how long they took, what they used, how they and their tries ended. */

import type { AttemptRecord, RequestRecord } from "../../proxy/record/record.ts";
import {
  answering,
  disconnectPhaseOf,
  errorCodeOf,
  isTruncated,
  modelOf,
  overheadMs,
  soundCount,
  timePerOutputTokenMs,
  timeToFirstTokenMs,
} from "../../proxy/record/record-facts.ts";
import type { KeyMetrics } from "./keys.ts";
import { createWorkerSeries, type LabelGuard } from "./labels.ts";
import type { Distribution, Labels, Registry, Series } from "./prometheus.ts";

interface RequestMetricsOptions {
  label: LabelGuard;
  keys: KeyMetrics;
  /** Series by worker, model and outcome that are kept apart. */
  maxWorkerSeries: number;
}

// Source: OpenTelemetry's semantic conventions for generative AI, metrics; durations and times to
// the first token go on for requests of many minutes.
const DURATION_S = [
  0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
  327.68, 655.36,
];
const FIRST_TOKEN_S = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 15, 20, 30,
  45, 60, 120,
];
const PER_TOKEN_S = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
const TOKENS = Array.from({ length: 14 }, (_, i) => 4 ** i);
const QUEUE_S = [0.001, 0.01, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];
const OVERHEAD_S = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1];

const GEN_AI = ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model"] as const;
type GenAiLabels = Labels<(typeof GEN_AI)[number]>;

export function registerRequestMetrics(registry: Registry, options: RequestMetricsOptions) {
  const { label, keys } = options;
  const metrics: Metrics = {
    ...registerTimes(registry),
    ...registerEnds(registry, options.maxWorkerSeries),
  };
  const kinds = new Map<string, RequestKind>();
  /** Those of requests that are alike, which most are: found by one look. */
  const kindOf = (record: RequestRecord): RequestKind => {
    const model = label(modelOf(record));
    const asked = record.modelKnown && record.model !== null ? label(record.model) : model;
    const used = record.attempts.at(-1);
    const answered = used?.outcome === "ok" ? label(used.model) : "";
    const code = errorCodeOf(record);
    const { route, operation, status } = record;
    const key = `${route}\0${status}\0${code ?? ""}\0${model}\0${asked}\0${answered}`;
    const known = kinds.get(key);
    if (known) return known;
    // Only what is looked up is forgotten: the series stay.
    if (kinds.size >= MAX_KINDS) kinds.clear();
    const names = {
      gen_ai_operation_name: operation,
      gen_ai_request_model: asked,
      gen_ai_response_model: answered === "" ? undefined : answered,
    };
    const kind = new RequestKind(metrics, { names, model, code, route, status: String(status) });
    kinds.set(key, kind);
    return kind;
  };
  return {
    observe(record: RequestRecord) {
      const kind = kindOf(record);
      kind.observe(record);
      countAttempts(metrics, record, { label, model: kind.model });
      countTokens(keys, record, kind);
    },
    /** Drops the series of workers for which `isKnown` is false. */
    prune(isKnown: (worker: string) => boolean) {
      metrics.attempts.prune(isKnown);
      metrics.truncated.prune(isKnown);
    },
  };
}

type Metrics = ReturnType<typeof registerTimes> & ReturnType<typeof registerEnds>;

/** Kinds of requests that are remembered with their series. */
const MAX_KINDS = 4096;

/** What the series of a request depend on. */
interface Facts {
  names: GenAiLabels;
  /** As a label. */
  model: string;
  /** Null for a good end. */
  code: string | null;
  route: string;
  status: string;
}

/** The series of requests that are alike; each is there once it has something to tell. */
class RequestKind {
  readonly model: string;
  readonly #metrics: Metrics;
  readonly #facts: Facts;
  readonly #duration: Distribution;
  readonly #total: Series<number>;
  #firstToken: Distribution | null = null;
  #perToken: Distribution | null = null;
  #overhead: Distribution | null = null;
  #queueWait: Distribution | null = null;
  readonly #tokens = new Map<string, Distribution>();

  constructor(metrics: Metrics, facts: Facts) {
    const { names, model, code, route, status } = facts;
    this.model = model;
    this.#metrics = metrics;
    this.#facts = facts;
    this.#duration = metrics.duration.of(code === null ? names : { ...names, error_type: code });
    this.#total = metrics.total.of({ route, model, status });
  }

  observe(record: RequestRecord): void {
    const { errors, firstToken, perToken, overhead, queueWait } = this.#metrics;
    const { names, model, code, route } = this.#facts;
    this.#duration.observe(seconds(record.durationMs));
    this.#total.value += 1;
    if (code !== null) errors.inc({ route, model, code });
    const firstMs = timeToFirstTokenMs(record);
    if (firstMs !== null) (this.#firstToken ??= firstToken.of(names)).observe(seconds(firstMs));
    const perTokenMs = timePerOutputTokenMs(record);
    if (perTokenMs !== null) (this.#perToken ??= perToken.of(names)).observe(seconds(perTokenMs));
    const addedMs = overheadMs(record);
    if (addedMs !== null) (this.#overhead ??= overhead.of({ route })).observe(seconds(addedMs));
    if (record.attempts.length === 0) return;
    (this.#queueWait ??= queueWait.of({ model })).observe(seconds(record.queueMs));
  }

  tokens(type: string, count: number): void {
    let found = this.#tokens.get(type);
    if (!found) {
      const labels = { ...this.#facts.names, gen_ai_token_type: type };
      this.#tokens.set(type, (found = this.#metrics.tokenUsage.of(labels)));
    }
    found.observe(count);
  }
}

function registerTimes(registry: Registry) {
  const histogram = <L extends string>(
    name: string,
    help: string,
    shape: { labelNames: readonly L[]; buckets: number[] },
  ) => registry.histogram({ name, help, ...shape });
  return {
    duration: histogram("gen_ai_server_request_duration_seconds", "Time of a request.", {
      labelNames: [...GEN_AI, "error_type"],
      buckets: DURATION_S,
    }),
    firstToken: histogram(
      "gen_ai_server_time_to_first_token_seconds",
      "Time to the first data of a stream, including the wait for a replica.",
      { labelNames: GEN_AI, buckets: FIRST_TOKEN_S },
    ),
    perToken: histogram(
      "gen_ai_server_time_per_output_token_seconds",
      "Time per output token after the first, of streams.",
      { labelNames: GEN_AI, buckets: PER_TOKEN_S },
    ),
    tokenUsage: histogram("gen_ai_client_token_usage", "Tokens of a request, by type.", {
      labelNames: [...GEN_AI, "gen_ai_token_type"],
      buckets: TOKENS,
    }),
    overhead: histogram(
      "llmnode_proxy_overhead_seconds",
      "What the head adds before the first data, without waiting for client, replica or engine.",
      { labelNames: ["route"], buckets: OVERHEAD_S },
    ),
    queueWait: histogram("llmnode_queue_wait_seconds", "Waiting for a replica.", {
      labelNames: ["model"],
      buckets: QUEUE_S,
    }),
  };
}

function registerEnds(registry: Registry, maxWorkerSeries: number) {
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    registry.counter({ name, help, labelNames });
  const byWorker = (name: string, help: string, labelNames: ("worker" | "model" | "outcome")[]) =>
    createWorkerSeries(counter(name, help, labelNames), maxWorkerSeries);
  return {
    total: counter("llmnode_requests_total", "Finished requests; 499: the client left.", [
      "route",
      "model",
      "status",
    ]),
    errors: counter("llmnode_request_errors_total", "Requests that failed, by error code.", [
      "route",
      "model",
      "code",
    ]),
    disconnects: counter(
      "llmnode_client_disconnects_total",
      "Clients that left early, by what was going on: body, queue, engine or answer.",
      ["model", "phase"],
    ),
    attempts: byWorker("llmnode_attempts_total", "Tries of requests on replicas, by outcome.", [
      "model",
      "worker",
      "outcome",
    ]),
    retries: counter(
      "llmnode_retries_total",
      "Tries after the first, by why the one before failed.",
      ["model", "reason"],
    ),
    truncated: byWorker("llmnode_stream_truncated_total", "Answers cut off after they had begun.", [
      "model",
      "worker",
    ]),
    resumes: counter(
      "llmnode_stream_resumes_total",
      "Cut-off streams that could continue on another replica, by result.",
      ["model", "result"],
    ),
  };
}

function countAttempts(
  metrics: Metrics,
  record: RequestRecord,
  { label, model }: { label: LabelGuard; model: string },
): void {
  const { attempts } = record;
  for (let i = 0; i < attempts.length; i += 1) {
    const { model: tried, worker, outcome } = attempts[i] as AttemptRecord;
    metrics.attempts.inc(worker, label(tried), outcome);
    if (i < attempts.length - 1) metrics.retries.inc({ model, reason: outcome });
  }
  const answered = isTruncated(record) ? answering(attempts) : undefined;
  if (answered) metrics.truncated.inc(answered.worker, label(answered.model));
  if (record.resume !== null) metrics.resumes.inc({ model, result: record.resume });
  const phase = disconnectPhaseOf(record);
  if (phase !== null) metrics.disconnects.inc({ model, phase });
}

function countTokens(keys: KeyMetrics, record: RequestRecord, kind: RequestKind): void {
  const { usage } = record;
  if (usage === null) return;
  const { model } = kind;
  const count = (type: string, reported: number | null) => {
    const tokens = soundCount(reported);
    if (tokens === null) return;
    keys.tokens(record.key?.id ?? null, { model, type }, tokens);
    if (type !== "output_estimated") kind.tokens(type, tokens);
  };
  count("input", usage.input);
  count("cached_input", usage.cachedInput);
  count(record.usageEstimated ? "output_estimated" : "output", usage.output);
  count("reasoning", usage.reasoning);
}

/** A clock that was set back gives 0. */
function seconds(ms: number): number {
  return Math.max(0, ms) / 1000;
}
