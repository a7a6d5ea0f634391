/** What SGLang tells about itself and its load, in JSON and as metrics. */

import { createExposition, seriesByModel } from "../core/exposition.ts";
import { endedRequests, kvUsage, type ModelMetrics } from "../core/metrics.ts";
import type { SimOptions } from "../core/options.ts";

const VERSION = "0.5.0+llmnode.sim";
/** Where the number is not limited, and the size of the cache is not either. */
const MAX_RUNNING = 4096;
const MAX_TOKENS = 1_048_576;

export function modelInfo({ models }: SimOptions): object {
  return {
    model_path: models[0],
    tokenizer_path: models[0],
    served_model_name: models[0],
    is_generation: true,
    preferred_sampling_params: null,
    weight_version: "default",
    has_image_understanding: false,
    has_audio_understanding: false,
  };
}

export function serverInfo({ models, host, port, maxModelLen, ...limits }: SimOptions): object {
  return {
    model_path: models[0],
    served_model_name: models[0],
    host,
    port,
    context_length: maxModelLen,
    max_total_num_tokens: limits.kvTokens ?? MAX_TOKENS,
    max_running_requests: limits.maxNumSeqs ?? MAX_RUNNING,
    version: VERSION,
  };
}

/** The body of `/v1/loads`. */
export function sglangLoads(
  models: ReadonlyMap<string, ModelMetrics>,
  { maxNumSeqs, kvTokens }: SimOptions,
): object {
  const sum = (read: (metrics: ModelMetrics) => number) =>
    [...models.values()].reduce((total, metrics) => total + read(metrics), 0);
  const running = sum((m) => m.running);
  const waiting = sum((m) => m.waiting);
  return {
    timestamp: new Date().toISOString(),
    version: VERSION,
    dp_rank_count: 1,
    loads: [
      {
        dp_rank: 0,
        num_running_reqs: running,
        num_waiting_reqs: waiting,
        num_used_tokens: sum((m) => m.kvTokens),
        max_total_num_tokens: kvTokens ?? MAX_TOKENS,
        token_usage: Math.min(1, sum(kvUsage)),
        gen_throughput: 0,
        cache_hit_rate: share(
          sum((m) => m.prefixHits),
          sum((m) => m.prefixQueries),
        ),
        max_running_requests: maxNumSeqs ?? MAX_RUNNING,
      },
    ],
    aggregate: {
      total_running_reqs: running,
      total_waiting_reqs: waiting,
      total_reqs: running + waiting,
    },
  };
}

/** The text of `/metrics`, as with `--enable-metrics`. Names: observability/metrics_collector.py. */
export function sglangMetrics(models: ReadonlyMap<string, ModelMetrics>): string {
  const { gauge, counter, histogram, text } = createExposition(
    "sglang:",
    seriesByModel(
      models,
      (model) => `engine_type="unified",model_name="${model}",tp_rank="0",pp_rank="0"`,
    ),
  );
  const hitRate = (m: ModelMetrics) => share(m.prefixHits, m.prefixQueries);
  gauge("num_running_reqs", "The number of running requests.", "running");
  gauge("num_queue_reqs", "The number of requests in the waiting queue.", "waiting");
  gauge("num_used_tokens", "The number of used tokens.", "kvTokens");
  gauge("token_usage", "The token usage.", kvUsage);
  gauge("gen_throughput", "The generation throughput (token/s).", () => 0);
  gauge("cache_hit_rate", "The prefix cache hit rate.", hitRate);
  gauge("max_total_num_tokens", "Maximum total number of tokens.", "kvCapacity");
  gauge("num_retracted_reqs", "The number of retracted requests.", () => 0);
  counter("prompt_tokens_total", "Number of prefill tokens processed.", "promptTokens");
  counter("cached_tokens_total", "Number of cached prompt tokens.", "prefixHits");
  counter("generation_tokens_total", "Number of generation tokens processed.", "generationTokens");
  counter("num_requests_total", "Number of requests processed.", endedRequests);
  counter("num_aborted_requests_total", "Number of requests aborted.", (m) => m.finished.abort);
  const seconds = (what: string) => `Histogram of ${what} in seconds.`;
  histogram("time_to_first_token_seconds", seconds("time to first token"), "ttft");
  histogram("inter_token_latency_seconds", seconds("inter-token latency"), "itl");
  histogram("e2e_request_latency_seconds", seconds("end-to-end request latency"), "e2e");
  histogram("queue_time_seconds", seconds("queueing time"), "queue");
  return text();
}

function share(part: number, all: number): number {
  return all > 0 ? part / all : 0;
}
