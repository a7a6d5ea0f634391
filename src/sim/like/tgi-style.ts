/** How TGI writes chats, completions, its own streams and errors. */

import { failureOf } from "../core/refuse.ts";
import { encodeTokens } from "../core/text.ts";
import { toolCallsOf, usageBody, type OpenAiStyle } from "../wire/openai.ts";
import { dataFrame, SSE, type FinishReason, type Wire } from "../wire/wire.ts";
import { createExposition } from "../core/exposition.ts";
import { endedRequests, type ModelMetrics } from "../core/metrics.ts";

export const VERSION = "3.3.0+llmnode.sim";

// Source: TGI's router/src/lib.rs and server.rs.

const FINGERPRINT = `${VERSION}-native`;

export const tgiStyle: OpenAiStyle = {
  id: () => "",
  frame: ({ kind, id, created, model }) => [
    `"object":"${kind === "chat" ? "chat.completion.chunk" : "text_completion"}","id":${JSON.stringify(id)},"created":${created},"model":${JSON.stringify(model)},"system_fingerprint":"${FINGERPRINT}","choices":`,
    "",
  ],
  chat: {
    opening: null,
    openingEnd: "",
    before: ',"delta":{"role":"assistant","content":"',
    after: '"}',
    tail: ',"logprobs":null,"finish_reason":null',
    finish: (reason) =>
      `,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":"${reason}"`,
    reasoning: ["reasoning_content"],
  },
  completion: {
    before: ',"text":"',
    after: '"',
    tail: ',"logprobs":null,"finish_reason":""',
    finish: (reason) => `,"text":"","logprobs":null,"finish_reason":"${reason}"`,
  },
  tellsCached: false,
  nullUsage: (kind) => kind === "chat",
  timings: null,
  errorFrame: (error) => dataFrame(tgiError(error)),
  doneAfterError: true,
  body: ({ kind, id, created, model }, choices, usage) => ({
    object: kind === "chat" ? "chat.completion" : "text_completion",
    id,
    created,
    model,
    system_fingerprint: FINGERPRINT,
    choices: choices.map((choice) => ({
      index: choice.index,
      ...(kind === "chat"
        ? {
            message: {
              role: "assistant",
              ...(choice.calls.length > 0
                ? { tool_calls: toolCallsOf(choice) }
                : { content: choice.text }),
            },
          }
        : { text: choice.text }),
      logprobs: choice.logprobs,
      finish_reason: choice.reason,
    })),
    usage: usageBody(usage),
  }),
};

/** Validation is 422, a failed generation 424. */
export function tgiStatus(error: unknown): number {
  return failureOf(error).status < 500 ? 422 : 424;
}

export function tgiError(error: unknown): object {
  const { status, message } = failureOf(error);
  return status < 500
    ? { error: `Input validation error: ${message}`, error_type: "validation" }
    : { error: `Request failed during generation: ${message}`, error_type: "generation" };
}

interface GenerateOptions {
  promptTokens: number;
  /** The last token of a stream carries the end. */
  length: number;
  reason: FinishReason;
  details: boolean;
  /** What the whole text begins with: the prompt, if it was asked for. */
  startsWith: string;
  listed: boolean;
}

/** `/generate` and `/generate_stream`: the stream has no end mark, its last token tells the text. */
export function generateWire(options: GenerateOptions): Wire {
  const { startsWith, listed } = options;
  let written = "";
  let count = 0;
  const details = (reason: FinishReason, more: object) => ({
    finish_reason: reasonOf(reason),
    generated_tokens: count,
    seed: null,
    ...more,
  });
  return {
    contentType: SSE,
    opening: () => "",
    token(_, text) {
      written += text;
      count += 1;
      const isLast = count === options.length;
      return dataFrame({
        index: count,
        token: tokenOf(text),
        generated_text: isLast ? startsWith + written : null,
        details: isLast ? details(options.reason, { input_length: options.promptTokens }) : null,
      });
    },
    piece: () => "",
    finish: () => "",
    end: () => "",
    error: (error) => dataFrame(tgiError(error)),
    whole([choice]) {
      const tokens = choice?.tokens ?? [];
      count = tokens.length;
      const shown = details(choice?.reason ?? "stop", { prefill: [], tokens: tokens.map(tokenOf) });
      const body = {
        generated_text: startsWith + (choice?.text ?? ""),
        ...(options.details ? { details: shown } : {}),
      };
      return listed ? [body] : body;
    },
  };
}

function tokenOf(text: string): object {
  return { id: encodeTokens(text)[0] ?? 0, text, logprob: -0.5, special: false };
}

function reasonOf(reason: FinishReason): string {
  return reason === "length" ? "length" : "eos_token";
}

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
