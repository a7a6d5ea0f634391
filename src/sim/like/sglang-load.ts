/** What SGLang tells about itself and its load, in JSON and as metrics. */

import { createExposition, escapeLabel } from "../core/exposition.ts";
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
    [...models].map(([model, metrics]) => ({
      labels: `engine_type="unified",model_name="${escapeLabel(model)}",tp_rank="0",pp_rank="0"`,
      metrics,
    })),
  );
  gauge("sglang:num_running_reqs", "The number of running requests.", (m) => m.running);
  gauge("sglang:num_queue_reqs", "The number of requests in the waiting queue.", (m) => m.waiting);
  gauge("sglang:num_used_tokens", "The number of used tokens.", (m) => m.kvTokens);
  gauge("sglang:token_usage", "The token usage.", kvUsage);
  gauge("sglang:gen_throughput", "The generation throughput (token/s).", () => 0);
  gauge("sglang:cache_hit_rate", "The prefix cache hit rate.", (m) =>
    share(m.prefixHits, m.prefixQueries),
  );
  gauge("sglang:max_total_num_tokens", "Maximum total number of tokens.", (m) => m.kvCapacity);
  gauge("sglang:num_retracted_reqs", "The number of retracted requests.", () => 0);
  counter(
    "sglang:prompt_tokens_total",
    "Number of prefill tokens processed.",
    (m) => m.promptTokens,
  );
  counter("sglang:cached_tokens_total", "Number of cached prompt tokens.", (m) => m.prefixHits);
  counter(
    "sglang:generation_tokens_total",
    "Number of generation tokens processed.",
    (m) => m.generationTokens,
  );
  counter("sglang:num_requests_total", "Number of requests processed.", endedRequests);
  counter(
    "sglang:num_aborted_requests_total",
    "Number of requests aborted.",
    (m) => m.finished.abort,
  );
  histogram(
    "sglang:time_to_first_token_seconds",
    "Histogram of time to first token in seconds.",
    (m) => m.ttft,
  );
  histogram(
    "sglang:inter_token_latency_seconds",
    "Histogram of inter-token latency in seconds.",
    (m) => m.itl,
  );
  histogram(
    "sglang:e2e_request_latency_seconds",
    "Histogram of end-to-end request latency in seconds.",
    (m) => m.e2e,
  );
  histogram("sglang:queue_time_seconds", "Histogram of queueing time in seconds.", (m) => m.queue);
  return text();
}

function share(part: number, all: number): number {
  return all > 0 ? part / all : 0;
}
