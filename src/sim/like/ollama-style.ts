/** How Ollama writes its JSON lines, OpenAI's chats and completions, and errors. */

import { failureOf, plainMessage } from "../core/refuse.ts";
import { contentIn, toolCallsOf, usageBody, type OpenAiStyle } from "../wire/openai.ts";
import { around, dataFrame, type FinishReason, type Summary, type Wire } from "../wire/wire.ts";

// Sources: Ollama's api/types.go, openai/openai.go, middleware/openai.go.

const FINGERPRINT = "fp_ollama";
const HOLE = "\u0001";

export const ollamaStyle: OpenAiStyle = {
  id: (kind, id) => `${kind === "chat" ? "chatcmpl" : "cmpl"}-${id.slice(0, 8)}`,
  frame: ({ kind, id, created, model }) => [
    `"id":${JSON.stringify(id)},"object":"${kind === "chat" ? "chat.completion.chunk" : "text_completion"}","created":${created},"model":${JSON.stringify(model)},"system_fingerprint":"${FINGERPRINT}","choices":`,
    "",
  ],
  chat: {
    opening: null,
    openingEnd: "",
    before: ',"delta":{"role":"assistant","content":"',
    after: '"}',
    tail: ',"finish_reason":null',
    finish: (reason) => `,"delta":{"role":"assistant","content":""},"finish_reason":"${reason}"`,
    reasoning: ["reasoning"],
  },
  completion: {
    before: ',"text":"',
    after: '"',
    tail: ',"finish_reason":null',
    finish: (reason) => `,"text":"","finish_reason":"${reason}"`,
  },
  tellsCached: false,
  nullUsage: () => false,
  timings: null,
  errorFrame: (error) => dataFrame({ error: ollamaError(error) }),
  doneAfterError: false,
  body: ({ kind, id, created, model }, choices, usage) => ({
    id,
    object: kind === "chat" ? "chat.completion" : "text_completion",
    created,
    model,
    system_fingerprint: FINGERPRINT,
    choices: choices.map((choice) => ({
      index: choice.index,
      ...contentIn(kind, choice, {
        content: choice.text,
        ...(choice.reasoning === null ? {} : { reasoning: choice.reasoning }),
        ...(choice.calls.length > 0 ? { tool_calls: toolCallsOf(choice) } : {}),
      }),
      ...(choice.logprobs ? { logprobs: choice.logprobs } : {}),
      finish_reason: choice.reason,
    })),
    usage: usageBody(usage),
  }),
};

/** OpenAI's shape without a code; the native routes take the message alone. */
export function ollamaError(error: unknown) {
  const { status, code, message, param } = failureOf(error);
  const type =
    status === 404 ? "not_found_error" : status < 500 ? "invalid_request_error" : "api_error";
  const unknown = code === "model_not_found" && param === "model";
  return {
    message: unknown ? notFound(message) : plainMessage(error),
    type,
    param: null,
    code: null,
  };
}

/** The model's name stands between backquotes. */
function notFound(message: string): string {
  return `model '${message.split("`")[1] ?? ""}' not found`;
}

interface NativeOptions {
  named: string;
  chat: boolean;
  /** How long the model had to be loaded for this. */
  loadMs: number;
}

/** `/api/generate` and `/api/chat`: one JSON object a line, the last one with `"done":true`. */
export function nativeWire({ named, chat, loadMs }: NativeOptions): Wire {
  const head = { model: named, created_at: new Date().toISOString() };
  const saying = (content: string) =>
    chat ? { message: { role: "assistant", content } } : { response: content };
  const [before, after] = around({ ...head, ...saying(HOLE), done: false }, "\\u0001");
  let reason: FinishReason = "stop";

  const last = (text: string, given: FinishReason, summary: Summary) => ({
    ...head,
    ...saying(text),
    done: true,
    done_reason: given === "length" ? "length" : "stop",
    total_duration: nanoseconds(loadMs + summary.prefillMs + summary.decodeMs),
    load_duration: nanoseconds(loadMs),
    prompt_eval_count: summary.promptTokens,
    prompt_eval_duration: nanoseconds(summary.prefillMs),
    eval_count: summary.completionTokens,
    eval_duration: nanoseconds(summary.decodeMs),
  });

  return {
    contentType: "application/x-ndjson",
    token: (_, text) => `${before}${text}${after}\n`,
    finish(_, given) {
      reason = given;
      return "";
    },
    end: (summary, noDone) => (noDone ? "" : `${JSON.stringify(last("", reason, summary))}\n`),
    error: (error) => `${JSON.stringify({ error: ollamaError(error).message })}\n`,
    whole: ([choice], summary) => last(choice?.text ?? "", choice?.reason ?? "stop", summary),
  };
}

/** Ollama's durations. */
export function nanoseconds(ms: number): number {
  return Math.max(1, Math.round(ms * 1e6));
}
