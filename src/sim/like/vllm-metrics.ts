/** The engine's figures under vLLM's names. */

import { createExposition, seriesByModel } from "../core/exposition.ts";
import { BLOCK_TOKENS } from "../core/kv-cache.ts";
import { kvUsage, type ModelMetrics } from "../core/metrics.ts";

// Names and help texts: vLLM's vllm/v1/metrics/loggers.py.
const SECONDS = [
  ["time_to_first_token", "time to first token", "ttft"],
  ["inter_token_latency", "inter-token latency", "itl"],
  ["request_time_per_output_token", "time per output token per request", "tpot"],
  ["e2e_request_latency", "e2e request latency", "e2e"],
  ["request_queue_time", "time spent in WAITING phase", "queue"],
  ["request_inference_time", "time spent in RUNNING phase", "inference"],
  ["request_prefill_time", "time spent in PREFILL phase", "prefill"],
  ["request_decode_time", "time spent in DECODE phase", "decode"],
] as const;

/** The text of `/metrics`. */
export function vllmMetrics(models: ReadonlyMap<string, ModelMetrics>): string {
  const { gauge, counter, counters, histogram, info, text } = createExposition(
    "vllm:",
    seriesByModel(models, (model) => `engine="0",model_name="${model}"`),
  );
  gauge("num_requests_running", "Number of requests in model execution batches.", "running");
  gauge("num_requests_waiting", "Number of requests waiting to be processed.", "waiting");
  gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kvUsage);
  const queries = "Prefix cache queries, in terms of number of queried tokens.";
  counter("prefix_cache_queries_total", queries, "prefixQueries");
  const hits = "Prefix cache hits, in terms of number of cached tokens.";
  counter("prefix_cache_hits_total", hits, "prefixHits");
  counter("num_preemptions_total", "Cumulative number of preemption from the engine.", () => 0);
  counter("prompt_tokens_total", "Number of prefill tokens processed.", "promptTokens");
  counter("generation_tokens_total", "Number of generation tokens processed.", "generationTokens");
  const ends = { help: "Count of successfully processed requests.", label: "finished_reason" };
  counters("request_success_total", ends, (m) => m.finished);
  histogram("request_prompt_tokens", "Number of prefill tokens processed.", "requestPromptTokens");
  const generated = "Number of generation tokens processed.";
  histogram("request_generation_tokens", generated, "requestGenerationTokens");
  for (const [name, what, field] of SECONDS) {
    histogram(`${name}_seconds`, `Histogram of ${what} in seconds.`, field);
  }
  info(
    "cache_config_info",
    "Information of the LLMEngine CacheConfig",
    `block_size="${BLOCK_TOKENS}",engine="0",num_gpu_blocks="${blocksOf(models)}"`,
  );
  return text();
}

/** One cache for all models of the engine. */
function blocksOf(models: ReadonlyMap<string, ModelMetrics>): number {
  const [metrics] = models.values();
  return Math.floor((metrics?.kvCapacity ?? 0) / BLOCK_TOKENS);
}
