/** Counts finished requests and writes `GET /metrics` in Prometheus' text format. */

import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Usage } from "../../proxy/record/usage.ts";
import { type ClusterSource, registerClusterMetrics } from "./cluster.ts";
import { registerDispatchMetrics } from "./dispatch.ts";
import { registerRoutingMetrics, type RoutingSource } from "./routing.ts";
import { registerHardwareMetrics } from "./hardware.ts";
import { type KeyMetrics, registerKeyMetrics } from "./keys.ts";
import { registerLoadMetrics } from "./load.ts";
import { createLabelGuard, createWorkerSeries, type LabelGuard } from "./labels.ts";
import { registerProcessMetrics } from "./process.ts";
import { CONTENT_TYPE, createRegistry, type Labels, type Registry } from "./prometheus.ts";
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
  UNRESOLVED,
} from "../../proxy/record/record-facts.ts";

export interface MetricsOptions extends ClusterSource, RoutingSource {
  version: string;
  bun: string;
  limits?: Partial<MetricsLimits>;
}

export interface MetricsLimits {
  /** Models that have series of their own; the rest share one. */
  maxModels: number;
  /** Series by worker, model and outcome that are kept apart. */
  maxWorkerSeries: number;
  /** API keys that have series of their own, and series by key and model; the rest share one. */
  maxKeys: number;
  maxKeySeries: number;
  /** How often the event loop is looked at, and how long a late turn of it is shown. */
  lagIntervalMs: number;
  lagWindowMs: number;
  /** How long a scrape may hold the event loop up at a time, but for a single metric's text. */
  scrapeTurnMs: number;
}

export const METRICS_LIMITS: MetricsLimits = {
  maxModels: 1000,
  maxWorkerSeries: 10_000,
  maxKeys: 1000,
  maxKeySeries: 5000,
  lagIntervalMs: 100,
  lagWindowMs: 60_000,
  scrapeTurnMs: 2,
};

export interface Metrics extends Disposable {
  /** To be called once for every request, when it is over. Never throws. */
  observe(record: RequestRecord): void;
  /** What limits and authentication count. */
  readonly keys: KeyMetrics;
  /** The whole exposition; scrapes at the same time share one. */
  text(): Promise<string>;
  readonly contentType: string;
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

export function createMetrics(options: MetricsOptions): Metrics {
  const limits = { ...METRICS_LIMITS, ...options.limits };
  const registry = createRegistry();
  const modelLabel = createLabelGuard(limits.maxModels);
  // Not one of the models that take the places.
  const label: LabelGuard = (model) => (model === UNRESOLVED ? model : modelLabel(model));
  const keys = registerKeyMetrics(registry, limits);
  const requests = registerRequestMetrics(registry, { label, limits, keys });
  registerClusterMetrics(registry, options, label);
  registerHardwareMetrics(registry, options);
  registerLoadMetrics(registry, options);
  registerDispatchMetrics(registry, options, label);
  registerRoutingMetrics(registry, options, label);
  const lag = registerProcessMetrics(registry, { ...options, ...limits });

  /** One metric after the other, with turns for the streams between them. */
  const render = async () => {
    const known = new Set(Array.from(options.state.workers.values(), ({ name }) => name));
    requests.prune((worker) => known.has(worker));
    const texts: string[] = [];
    let since = performance.now();
    for (const text of registry.families()) {
      texts.push(await text());
      if (performance.now() - since < limits.scrapeTurnMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    return texts.join("");
  };
  let rendering: Promise<string> | null = null;
  return {
    observe: requests.observe,
    keys,
    text: () => (rendering ??= render().finally(() => (rendering = null))),
    contentType: CONTENT_TYPE,
    [Symbol.dispose]: () => lag[Symbol.dispose](),
  };
}

function registerRequestMetrics(
  registry: Registry,
  context: { label: LabelGuard; limits: MetricsLimits; keys: KeyMetrics },
) {
  const { label, limits, keys } = context;
  const counter = <L extends string>(name: string, help: string, labelNames: L[]) =>
    registry.counter({ name, help, labelNames });
  const histogram = <L extends string>(
    name: string,
    help: string,
    shape: { labelNames: L[]; buckets: number[] },
  ) => registry.histogram({ name, help, ...shape });

  const genAi = ["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_response_model"] as const;
  const duration = histogram("gen_ai_server_request_duration_seconds", "Time of a request.", {
    labelNames: [...genAi, "error_type"],
    buckets: DURATION_S,
  });
  const firstToken = histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "Time to the first data of a stream, waiting for a replica included.",
    { labelNames: [...genAi], buckets: FIRST_TOKEN_S },
  );
  const perToken = histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Time per output token after the first, of streams.",
    { labelNames: [...genAi], buckets: PER_TOKEN_S },
  );
  const tokenUsage = histogram("gen_ai_client_token_usage", "Tokens of a request, by type.", {
    labelNames: [...genAi, "gen_ai_token_type"],
    buckets: TOKENS,
  });
  const total = counter("llmnode_requests_total", "Finished requests; 499: the client left.", [
    "route",
    "model",
    "status",
  ]);
  const errors = counter("llmnode_request_errors_total", "Requests that did not end well.", [
    "route",
    "model",
    "code",
  ]);
  const overhead = histogram(
    "llmnode_proxy_overhead_seconds",
    "What the head adds before the first data, without waiting for client, replica or engine.",
    { labelNames: ["route"], buckets: OVERHEAD_S },
  );
  const queueWait = histogram("llmnode_queue_wait_seconds", "Waiting for a replica.", {
    labelNames: ["model"],
    buckets: QUEUE_S,
  });
  const disconnects = counter(
    "llmnode_client_disconnects_total",
    "Clients that left early, by what was going on: body, queue, engine or answer.",
    ["model", "phase"],
  );
  const attempts = createWorkerSeries(
    counter("llmnode_attempts_total", "Tries of requests on replicas.", [
      "model",
      "worker",
      "outcome",
    ]),
    limits.maxWorkerSeries,
  );
  const retries = counter("llmnode_retries_total", "Tries after the first, by what made them.", [
    "model",
    "reason",
  ]);
  const truncated = createWorkerSeries(
    counter("llmnode_stream_truncated_total", "Answers that broke off after they had begun.", [
      "model",
      "worker",
    ]),
    limits.maxWorkerSeries,
  );
  const resumes = counter(
    "llmnode_stream_resumes_total",
    "Streams that broke off and might have gone on elsewhere, by what came of it.",
    ["model", "result"],
  );
  const countTokens = (
    record: RequestRecord,
    usage: Usage,
    { names, model }: { names: Labels<(typeof genAi)[number]>; model: string },
  ): void => {
    const count = (type: string, said: number | null) => {
      const tokens = soundCount(said);
      if (tokens === null) return;
      keys.tokens(record.key?.id ?? null, { model, type }, tokens);
      if (type === "output_estimated") return;
      tokenUsage.observe({ ...names, gen_ai_token_type: type }, tokens);
    };
    count("input", usage.input);
    count("cached_input", usage.cachedInput);
    count(record.usageEstimated ? "output_estimated" : "output", usage.output);
    count("reasoning", usage.reasoning);
  };
  const observe = (record: RequestRecord): void => {
    const { route } = record;
    const model = label(modelOf(record));
    const used = record.attempts.at(-1);
    const code = errorCodeOf(record);
    const names = {
      gen_ai_operation_name: record.operation,
      gen_ai_request_model:
        record.modelKnown && record.model !== null ? label(record.model) : model,
      gen_ai_response_model: used?.outcome === "ok" ? label(used.model) : undefined,
    };
    total.inc({ route, model, status: String(record.status) });
    if (code !== null) errors.inc({ route, model, code });
    duration.observe(code === null ? names : { ...names, error_type: code }, s(record.durationMs));

    const firstMs = timeToFirstTokenMs(record);
    if (firstMs !== null) firstToken.observe(names, s(firstMs));
    const perTokenMs = timePerOutputTokenMs(record);
    if (perTokenMs !== null) perToken.observe(names, s(perTokenMs));
    const addedMs = overheadMs(record);
    if (addedMs !== null) overhead.observe({ route }, s(addedMs));

    if (record.attempts.length > 0) queueWait.observe({ model }, s(record.queueMs));
    const last = record.attempts.length - 1;
    record.attempts.forEach(({ model: tried, worker, outcome }, i) => {
      attempts.inc({ model: label(tried), worker, outcome });
      if (i < last) retries.inc({ model, reason: outcome });
    });
    const answered = isTruncated(record) ? answering(record.attempts) : undefined;
    if (answered) truncated.inc({ model: label(answered.model), worker: answered.worker });
    if (record.resume !== null) resumes.inc({ model, result: record.resume });
    const phase = disconnectPhaseOf(record);
    if (phase !== null) disconnects.inc({ model, phase });

    if (record.usage !== null) countTokens(record, record.usage, { names, model });
  };
  return {
    observe,
    prune(isKnown: (worker: string) => boolean) {
      attempts.prune(isKnown);
      truncated.prune(isKnown);
    },
  };
}

/** Milliseconds to seconds; a clock that was set back gives 0. */
function s(ms: number): number {
  return Math.max(0, ms) / 1000;
}
