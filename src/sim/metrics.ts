/** The engine's counters, shown in Prometheus text under vLLM's names. */

// Names, help texts and buckets: vLLM's vllm/v1/metrics/loggers.py.
const TTFT_BUCKETS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
];
const TOKEN_BUCKETS = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const LATENCY_BUCKETS = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];

/** The size that the simulated cache is said to have, in blocks and in tokens a block. */
const KV_BLOCKS = 65_536;
const KV_BLOCK_TOKENS = 16;

export type FinishedReason = "stop" | "length" | "abort" | "error";

interface Histogram {
  buckets: readonly number[];
  counts: number[];
  sum: number;
}

/** All figures of one model; the engine writes the plain fields, `observe` the histograms. */
export interface ModelMetrics {
  running: number;
  /** Prompt and output tokens of all running requests. */
  kvTokens: number;
  promptTokens: number;
  generationTokens: number;
  finished: Record<FinishedReason, number>;
  ttft: Histogram;
  itl: Histogram;
  tpot: Histogram;
  e2e: Histogram;
  queue: Histogram;
  inference: Histogram;
  prefill: Histogram;
  decode: Histogram;
  requestPromptTokens: Histogram;
  requestGenerationTokens: Histogram;
}

/** Figures at zero. `maxModelLen` bounds the buckets that count tokens. */
export function createModelMetrics(maxModelLen: number): ModelMetrics {
  const perRequest = oneTwoFive(maxModelLen);
  return {
    running: 0,
    kvTokens: 0,
    promptTokens: 0,
    generationTokens: 0,
    finished: { stop: 0, length: 0, abort: 0, error: 0 },
    ttft: histogram(TTFT_BUCKETS),
    itl: histogram(TOKEN_BUCKETS),
    tpot: histogram(TOKEN_BUCKETS),
    e2e: histogram(LATENCY_BUCKETS),
    queue: histogram(LATENCY_BUCKETS),
    inference: histogram(LATENCY_BUCKETS),
    prefill: histogram(LATENCY_BUCKETS),
    decode: histogram(LATENCY_BUCKETS),
    requestPromptTokens: histogram(perRequest),
    requestGenerationTokens: histogram(perRequest),
  };
}

/** Adds one observation to a histogram (seconds or tokens), or `times` equal ones. */
export function observe(into: Histogram, value: number, times = 1): void {
  let at = 0;
  while (at < into.buckets.length && value > (into.buckets[at] ?? 0)) at += 1;
  into.counts[at] = (into.counts[at] ?? 0) + times;
  into.sum += value * times;
}

/** The text of `/metrics`. */
export function renderMetrics(models: ReadonlyMap<string, ModelMetrics>): string {
  const lines: string[] = [];
  const series = [...models].map(([model, metrics]) => ({
    labels: `engine="0",model_name="${escapeLabel(model)}"`,
    metrics,
  }));
  const family = (name: string, type: string, help: string) =>
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  const plain = (
    name: string,
    [type, help]: [string, string],
    read: (metrics: ModelMetrics) => number,
  ) => {
    family(name, type, help);
    for (const { labels, metrics } of series) lines.push(`${name}{${labels}} ${read(metrics)}`);
  };
  const spread = (name: string, help: string, read: (metrics: ModelMetrics) => Histogram) => {
    family(name, "histogram", help);
    for (const { labels, metrics } of series) pushHistogram(lines, { name, labels }, read(metrics));
  };

  plain(
    "vllm:num_requests_running",
    ["gauge", "Number of requests in model execution batches."],
    (m) => m.running,
  );
  plain(
    "vllm:num_requests_waiting",
    ["gauge", "Number of requests waiting to be processed."],
    () => 0,
  );
  plain("vllm:kv_cache_usage_perc", ["gauge", "KV-cache usage. 1 means 100 percent usage."], (m) =>
    Math.min(1, m.kvTokens / (KV_BLOCKS * KV_BLOCK_TOKENS)),
  );
  plain(
    "vllm:prefix_cache_queries_total",
    ["counter", "Prefix cache queries, in terms of number of queried tokens."],
    () => 0,
  );
  plain(
    "vllm:prefix_cache_hits_total",
    ["counter", "Prefix cache hits, in terms of number of cached tokens."],
    () => 0,
  );
  plain(
    "vllm:num_preemptions_total",
    ["counter", "Cumulative number of preemption from the engine."],
    () => 0,
  );
  plain(
    "vllm:prompt_tokens_total",
    ["counter", "Number of prefill tokens processed."],
    (m) => m.promptTokens,
  );
  plain(
    "vllm:generation_tokens_total",
    ["counter", "Number of generation tokens processed."],
    (m) => m.generationTokens,
  );
  family("vllm:request_success_total", "counter", "Count of successfully processed requests.");
  for (const { labels, metrics } of series) {
    for (const [reason, count] of Object.entries(metrics.finished)) {
      lines.push(`vllm:request_success_total{${labels},finished_reason="${reason}"} ${count}`);
    }
  }
  spread(
    "vllm:request_prompt_tokens",
    "Number of prefill tokens processed.",
    (m) => m.requestPromptTokens,
  );
  spread(
    "vllm:request_generation_tokens",
    "Number of generation tokens processed.",
    (m) => m.requestGenerationTokens,
  );
  const seconds: [string, string, (m: ModelMetrics) => Histogram][] = [
    ["time_to_first_token", "time to first token", (m) => m.ttft],
    ["inter_token_latency", "inter-token latency", (m) => m.itl],
    ["request_time_per_output_token", "time per output token per request", (m) => m.tpot],
    ["e2e_request_latency", "e2e request latency", (m) => m.e2e],
    ["request_queue_time", "time spent in WAITING phase", (m) => m.queue],
    ["request_inference_time", "time spent in RUNNING phase", (m) => m.inference],
    ["request_prefill_time", "time spent in PREFILL phase", (m) => m.prefill],
    ["request_decode_time", "time spent in DECODE phase", (m) => m.decode],
  ];
  for (const [name, what, read] of seconds) {
    spread(`vllm:${name}_seconds`, `Histogram of ${what} in seconds.`, read);
  }
  family("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig");
  lines.push(
    `vllm:cache_config_info{block_size="${KV_BLOCK_TOKENS}",engine="0",num_gpu_blocks="${KV_BLOCKS}"} 1`,
  );
  return `${lines.join("\n")}\n`;
}

function pushHistogram(
  lines: string[],
  { name, labels }: { name: string; labels: string },
  from: Histogram,
): void {
  let total = 0;
  from.counts.forEach((count, i) => {
    total += count;
    const bound = from.buckets[i];
    lines.push(`${name}_bucket{${labels},le="${bound ?? "+Inf"}"} ${total}`);
  });
  lines.push(`${name}_count{${labels}} ${total}`, `${name}_sum{${labels}} ${from.sum}`);
}

function histogram(buckets: readonly number[]): Histogram {
  return { buckets, counts: new Array<number>(buckets.length + 1).fill(0), sum: 0 };
}

/** 1, 2, 5, 10, 20, ... up to a bound, as vLLM's build_1_2_5_buckets. */
function oneTwoFive(max: number): number[] {
  const buckets: number[] = [];
  for (let power = 1; power <= max; power *= 10) {
    buckets.push(...[1, 2, 5].map((m) => m * power).filter((value) => value <= max));
  }
  return buckets;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
