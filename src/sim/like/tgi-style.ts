/** How TGI writes chats, completions, its own streams and errors. */

import { failureOf } from "../core/refuse.ts";
import { encodeTokens } from "../core/text.ts";
import { contentIn, toolCallsOf, usageBody, type OpenAiStyle } from "../wire/openai.ts";
import { dataFrame, SSE, type FinishReason, type Wire } from "../wire/wire.ts";
import { createExposition, onlySeries } from "../core/exposition.ts";
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
      ...contentIn(
        kind,
        choice,
        choice.calls.length > 0 ? { tool_calls: toolCallsOf(choice) } : { content: choice.text },
      ),
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
  const { gauge, counter, counters, histogram, text } = createExposition(
    "tgi_",
    onlySeries(models),
  );
  const batchTokens = "Maximum number of tokens the current batch will grow to";
  gauge("batch_current_size", "Current batch size", "running");
  gauge("batch_current_max_tokens", batchTokens, "kvTokens");
  gauge("batch_max_total_tokens", "Maximum tokens of a batch", "kvCapacity");
  gauge("queue_size", "Current number of requests in the internal queue", "waiting");
  const taken = (m: ModelMetrics) => endedRequests(m) + m.running + m.waiting;
  const succeeded = (m: ModelMetrics) => m.finished.stop + m.finished.length;
  counter("request_count", "Total number of requests", taken);
  counter("request_success", "Number of successful requests", succeeded);
  const failures = { help: "Number of failed requests", label: "err" };
  counters("request_failure", failures, ({ finished }) => ({
    dropped: finished.abort,
    generation: finished.error,
  }));
  histogram("request_input_length", "Input token length per request", "requestPromptTokens");
  histogram("request_generated_tokens", "Generated tokens per request", "requestGenerationTokens");
  histogram("request_duration", "End-to-end latency per request", "e2e");
  histogram("request_queue_duration", "Queue time per request", "queue");
  histogram("request_mean_time_per_token_duration", "Mean time per token", "tpot");
  return text();
}
