/** How llama-server writes chats, completions, its own streams and errors. */

import { failureOf, plainMessage } from "../core/refuse.ts";
import { contentIn, toolCallsOf, usageBody, type OpenAiStyle } from "../wire/openai.ts";
import { dataFrame, SSE, type FinishReason, type Summary, type Wire } from "../wire/wire.ts";

// Source: llama.cpp's tools/server/server-task.cpp and server-common.cpp.

const FINGERPRINT = "b0-llmnode.sim";

export const llamaStyle: OpenAiStyle = {
  id: (_, id) => `chatcmpl-${id}`,
  frame: ({ kind, id, created, model }) => [
    `"choices":`,
    `,"created":${created},"id":${JSON.stringify(id)},"model":${JSON.stringify(model)},"system_fingerprint":"${FINGERPRINT}","object":"${kind === "chat" ? "chat.completion.chunk" : "text_completion"}"`,
  ],
  chat: {
    opening: ',"delta":{"role":"assistant","content":null},"finish_reason":null',
    openingEnd: "",
    before: ',"delta":{"content":"',
    after: '"}',
    tail: ',"finish_reason":null',
    finish: (reason) => `,"delta":{},"finish_reason":"${reason}"`,
    reasoning: ["reasoning_content"],
  },
  completion: {
    before: ',"text":"',
    after: '"',
    tail: ',"logprobs":null,"finish_reason":null',
    finish: (reason) => `,"text":"","logprobs":null,"finish_reason":"${reason}"`,
  },
  tellsCached: true,
  nullUsage: () => false,
  timings: (summary) => ({ timings: timings(summary) }),
  errorFrame: (error) => dataFrame({ error: llamaError(error) }),
  doneAfterError: false,
  body: ({ kind, id, created, model }, choices, usage) => ({
    choices: choices.map((choice) => ({
      finish_reason: choice.reason,
      index: choice.index,
      ...contentIn(kind, choice, {
        ...(choice.reasoning === null ? {} : { reasoning_content: choice.reasoning }),
        content: choice.text,
        ...(choice.calls.length > 0 ? { tool_calls: toolCallsOf(choice) } : {}),
      }),
      ...(choice.logprobs ? { logprobs: choice.logprobs } : {}),
    })),
    created,
    model,
    system_fingerprint: FINGERPRINT,
    object: kind === "chat" ? "chat.completion" : "text_completion",
    usage: usageBody(usage),
    id,
  }),
};

export function llamaError(error: unknown) {
  const { status, code } = failureOf(error);
  if (code === "unknown_url") return { code: status, message: "File Not Found", type: typeOf(404) };
  const type = code === "request_too_large" ? "exceed_context_size_error" : typeOf(status);
  return { code: status, message: plainMessage(error), type };
}

function typeOf(status: number): string {
  if (status === 404) return "not_found_error";
  if (status === 503) return "unavailable_error";
  return status < 500 ? "invalid_request_error" : "server_error";
}

/** Milliseconds for each token and tokens a second, 0 where nothing was done. */
export function timingsOf({ tokens, ms }: { tokens: number; ms: number }) {
  return {
    perToken: tokens > 0 ? ms / tokens : 0,
    perSecond: ms > 0 ? (tokens * 1000) / ms : 0,
  };
}

function timings({ prefillMs, decodeMs, ...summary }: Summary): object {
  const { promptTokens, cachedTokens, completionTokens } = summary;
  const computed = promptTokens - (cachedTokens ?? 0);
  const prompt = timingsOf({ tokens: computed, ms: prefillMs });
  const predicted = timingsOf({ tokens: completionTokens, ms: decodeMs });
  return {
    cache_n: cachedTokens ?? 0,
    prompt_n: computed,
    prompt_ms: prefillMs,
    prompt_per_token_ms: prompt.perToken,
    prompt_per_second: prompt.perSecond,
    predicted_n: completionTokens,
    predicted_ms: decodeMs,
    predicted_per_token_ms: predicted.perToken,
    predicted_per_second: predicted.perSecond,
  };
}

interface CompletionHead {
  model: string;
  promptTokens: number;
  prompt: string;
}

/** `/completion`: the stream ends with an object that says `"stop":true`, without `[DONE]`. */
export function completionWire({ model, promptTokens, prompt }: CompletionHead): Wire {
  let reason: FinishReason = "stop";
  let count = 0;
  const last = (content: string, given: FinishReason, summary: Summary) => ({
    index: 0,
    content,
    tokens: [],
    id_slot: 0,
    stop: true,
    model,
    tokens_predicted: summary.completionTokens,
    tokens_evaluated: promptTokens,
    generation_settings: {},
    prompt,
    has_new_line: false,
    truncated: false,
    stop_type: given === "length" ? "limit" : "eos",
    stopping_word: "",
    tokens_cached: 0,
    timings: timings(summary),
  });
  return {
    contentType: SSE,
    token(_, text) {
      count += 1;
      return `data: {"index":0,"content":"${text}","tokens":[],"stop":false,"id_slot":-1,"tokens_predicted":${count},"tokens_evaluated":${promptTokens}}\n\n`;
    },
    finish(_, given) {
      reason = given;
      return "";
    },
    end: (summary, noDone) => (noDone ? "" : dataFrame(last("", reason, summary))),
    error: (error) => dataFrame({ error: llamaError(error) }),
    whole: ([choice], summary) => last(choice?.text ?? "", choice?.reason ?? "stop", summary),
  };
}
