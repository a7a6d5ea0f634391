/** What llama-server tells about itself: models, properties, slots and metrics. */

import { createExposition, onlySeries } from "../core/exposition.ts";
import type { ModelMetrics } from "../core/metrics.ts";
import type { SimOptions } from "../core/options.ts";
import { timingsOf } from "./llama-server-style.ts";
import type { Served } from "../api/dialect.ts";

/** Its `--parallel` when left to itself. */
export const SLOTS = 4;

/** As many as requests may run at once. */
export function slotsOf({ maxNumSeqs }: SimOptions): number {
  return maxNumSeqs ?? SLOTS;
}

const BUILD = "b0-llmnode.sim";

/** The body of `/v1/models`: OpenAI's list, and one in Ollama's manner beside it. */
export function modelList({ options, createdAt }: Served): object {
  return {
    models: options.models.map((name) => ({
      name,
      model: name,
      modified_at: "",
      size: "",
      digest: "",
      type: "model",
      description: "",
      tags: [""],
      capabilities: ["completion"],
      parameters: "",
      details: {
        parent_model: "",
        format: "gguf",
        family: "",
        families: [""],
        parameter_size: "",
        quantization_level: "",
      },
    })),
    object: "list",
    data: options.models.map((id) => ({
      id,
      aliases: [],
      tags: [],
      object: "model",
      created: createdAt,
      owned_by: "llamacpp",
      meta: {
        vocab_type: 2,
        n_vocab: 0,
        n_ctx: options.maxModelLen,
        n_ctx_train: options.maxModelLen,
        n_embd: 256,
        n_params: 0,
        size: 0,
      },
    })),
  };
}

export function props({ options }: Served): object {
  return {
    default_generation_settings: { n_ctx: options.maxModelLen, params: { n_predict: -1 } },
    total_slots: slotsOf(options),
    model_alias: options.models[0],
    model_path: options.models[0],
    modalities: { vision: false, audio: false },
    chat_template: "",
    build_info: BUILD,
    is_sleeping: false,
  };
}

/** The body of `/slots`; without a limit this engine takes more requests than it has slots. */
export function slots(running: number, options: SimOptions): object[] {
  return Array.from({ length: slotsOf(options) }, (_, id) => ({
    id,
    n_ctx: options.maxModelLen,
    speculative: false,
    is_processing: id < running,
  }));
}

/** The text of `/metrics`, as with `--metrics`. Names: tools/server/server-task.cpp. */
export function llamaMetrics(models: ReadonlyMap<string, ModelMetrics>, slotCount: number): string {
  const { gauge, counter, text } = createExposition("llamacpp:", onlySeries(models));
  const speed = (m: ModelMetrics) =>
    timingsOf({ tokens: m.generationTokens, ms: m.decode.sum * 1000 }).perSecond;
  // One engine, many streams: what is beyond the slots waits.
  const processing = (m: ModelMetrics) => Math.min(slotCount, m.running);
  const deferred = (m: ModelMetrics) => Math.max(0, m.running - slotCount) + m.waiting;
  counter("prompt_tokens_total", "Number of prompt tokens processed.", "promptTokens");
  counter("prompt_tokens_cached_total", "Number of prompt tokens reused.", "prefixHits");
  counter("prompt_seconds_total", "Prompt process time", (m) => m.prefill.sum);
  counter("tokens_predicted_total", "Number of generation tokens processed.", "generationTokens");
  counter("tokens_predicted_seconds_total", "Predict process time", (m) => m.decode.sum);
  gauge("predicted_tokens_seconds", "Average generation throughput in tokens/s.", speed);
  gauge("requests_processing", "Number of requests processing.", processing);
  gauge("requests_deferred", "Number of requests deferred.", deferred);
  return text();
}
