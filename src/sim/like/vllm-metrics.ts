/** The engine's figures under vLLM's names. */

import { createExposition, escapeLabel, type Read } from "../core/exposition.ts";
import { BLOCK_TOKENS } from "../core/kv-cache.ts";
import { kvUsage, type Histogram, type ModelMetrics } from "../core/metrics.ts";

// Names and help texts: vLLM's vllm/v1/metrics/loggers.py.
const SECONDS: [string, string, Read<Histogram>][] = [
  ["time_to_first_token", "time to first token", (m) => m.ttft],
  ["inter_token_latency", "inter-token latency", (m) => m.itl],
  ["request_time_per_output_token", "time per output token per request", (m) => m.tpot],
  ["e2e_request_latency", "e2e request latency", (m) => m.e2e],
  ["request_queue_time", "time spent in WAITING phase", (m) => m.queue],
  ["request_inference_time", "time spent in RUNNING phase", (m) => m.inference],
  ["request_prefill_time", "time spent in PREFILL phase", (m) => m.prefill],
  ["request_decode_time", "time spent in DECODE phase", (m) => m.decode],
];

/** The text of `/metrics`. */
export function vllmMetrics(models: ReadonlyMap<string, ModelMetrics>): string {
  const show = createExposition(
    [...models].map(([model, metrics]) => ({
      labels: `engine="0",model_name="${escapeLabel(model)}"`,
      metrics,
    })),
  );
  const none = () => 0;
  const { gauge, counter, histogram } = show;
  gauge(
    "vllm:num_requests_running",
    "Number of requests in model execution batches.",
    (m) => m.running,
  );
  gauge(
    "vllm:num_requests_waiting",
    "Number of requests waiting to be processed.",
    (m) => m.waiting,
  );
  gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kvUsage);
  counter(
    "vllm:prefix_cache_queries_total",
    "Prefix cache queries, in terms of number of queried tokens.",
    (m) => m.prefixQueries,
  );
  counter(
    "vllm:prefix_cache_hits_total",
    "Prefix cache hits, in terms of number of cached tokens.",
    (m) => m.prefixHits,
  );
  counter("vllm:num_preemptions_total", "Cumulative number of preemption from the engine.", none);
  counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", (m) => m.promptTokens);
  counter(
    "vllm:generation_tokens_total",
    "Number of generation tokens processed.",
    (m) => m.generationTokens,
  );
  show.counters(
    "vllm:request_success_total",
    { help: "Count of successfully processed requests.", label: "finished_reason" },
    (m) => m.finished,
  );
  histogram(
    "vllm:request_prompt_tokens",
    "Number of prefill tokens processed.",
    (m) => m.requestPromptTokens,
  );
  histogram(
    "vllm:request_generation_tokens",
    "Number of generation tokens processed.",
    (m) => m.requestGenerationTokens,
  );
  for (const [name, what, read] of SECONDS) {
    histogram(`vllm:${name}_seconds`, `Histogram of ${what} in seconds.`, read);
  }
  show.fact("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", {
    labels: `block_size="${BLOCK_TOKENS}",engine="0",num_gpu_blocks="${blocksOf(models)}"`,
    value: 1,
  });
  return show.text();
}

/** One cache for all models of the engine. */
function blocksOf(models: ReadonlyMap<string, ModelMetrics>): number {
  const [metrics] = models.values();
  return Math.floor((metrics?.kvCapacity ?? 0) / BLOCK_TOKENS);
}
