/** The engine's figures under TGI's names. */

import { createExposition } from "../core/exposition.ts";
import { endedRequests, type ModelMetrics } from "../core/metrics.ts";

/** The text of `/metrics`; TGI serves one model and puts no label. Source: its metrics reference. */
export function tgiMetrics(models: ReadonlyMap<string, ModelMetrics>): string {
  const [metrics] = models.values();
  const show = createExposition(metrics ? [{ labels: "", metrics }] : []);
  const { gauge, counter, histogram } = show;
  gauge("tgi_batch_current_size", "Current batch size", (m) => m.running);
  gauge(
    "tgi_batch_current_max_tokens",
    "Maximum number of tokens the current batch will grow to",
    (m) => m.kvTokens,
  );
  gauge("tgi_batch_max_total_tokens", "Maximum tokens of a batch", (m) => m.kvCapacity);
  gauge("tgi_queue_size", "Current number of requests in the internal queue", (m) => m.waiting);
  counter(
    "tgi_request_count",
    "Total number of requests",
    (m) => endedRequests(m) + m.running + m.waiting,
  );
  counter(
    "tgi_request_success",
    "Number of successful requests",
    (m) => m.finished.stop + m.finished.length,
  );
  show.counters(
    "tgi_request_failure",
    { help: "Number of failed requests", label: "err" },
    (m) => ({ dropped: m.finished.abort, generation: m.finished.error }),
  );
  histogram(
    "tgi_request_input_length",
    "Input token length per request",
    (m) => m.requestPromptTokens,
  );
  histogram(
    "tgi_request_generated_tokens",
    "Generated tokens per request",
    (m) => m.requestGenerationTokens,
  );
  histogram("tgi_request_duration", "End-to-end latency per request", (m) => m.e2e);
  histogram("tgi_request_queue_duration", "Queue time per request", (m) => m.queue);
  histogram("tgi_request_mean_time_per_token_duration", "Mean time per token", (m) => m.tpot);
  return show.text();
}
