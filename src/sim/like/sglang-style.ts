/** How SGLang writes chats, completions and errors. */

import { failureOf, pythonError } from "../core/refuse.ts";
import {
  promptDetails,
  contentIn,
  toolCallsOf,
  usageBody,
  type OpenAiStyle,
} from "../wire/openai.ts";
import { dataFrame } from "../wire/wire.ts";

// Source: SGLang's srt/entrypoints/openai/protocol.py and serving_base.py.

const NOTHING_ELSE = '"reasoning_content":null,"tool_calls":null}';

export const sglangStyle: OpenAiStyle = {
  id: (_, id) => id,
  frame: ({ kind, id, created, model }) => [
    `"id":${JSON.stringify(id)},"object":"${kind === "chat" ? "chat.completion.chunk" : "text_completion"}","created":${created},"model":${JSON.stringify(model)},"choices":`,
    "",
  ],
  chat: {
    opening: `,"delta":{"role":"assistant","content":"",${NOTHING_ELSE},"logprobs":null,"finish_reason":null,"matched_stop":null`,
    openingEnd: "",
    before: ',"delta":{"role":null,"content":"',
    after: `",${NOTHING_ELSE}`,
    tail: ',"logprobs":null,"finish_reason":null,"matched_stop":null',
    finish: (reason) =>
      `,"delta":{"role":null,"content":null,${NOTHING_ELSE},"logprobs":null,"finish_reason":"${reason}","matched_stop":null`,
    reasoning: ["reasoning_content"],
  },
  completion: {
    before: ',"text":"',
    after: '"',
    tail: ',"logprobs":null,"finish_reason":null,"matched_stop":null',
    finish: (reason) =>
      `,"text":"","logprobs":null,"finish_reason":"${reason}","matched_stop":null`,
  },
  tellsCached: true,
  nullUsage: () => true,
  timings: null,
  // Flat outside of streams, nested inside.
  errorFrame: (error) => dataFrame({ error: sglangError(error) }),
  doneAfterError: true,
  body: ({ kind, id, created, model }, choices, usage) => ({
    id,
    object: kind === "chat" ? "chat.completion" : "text_completion",
    created,
    model,
    choices: choices.map((choice) => ({
      index: choice.index,
      ...contentIn(kind, choice, {
        content: choice.text,
        reasoning_content: choice.reasoning,
        tool_calls: choice.calls.length > 0 ? toolCallsOf(choice) : null,
      }),
      logprobs: choice.logprobs,
      finish_reason: choice.reason,
      matched_stop: null,
    })),
    usage: {
      ...usageBody(usage),
      prompt_tokens_details: promptDetails(usage),
      reasoning_tokens: 0,
    },
    metadata: { weight_version: "default" },
  }),
};

export function sglangError(error: unknown): object {
  const { status, param } = failureOf(error);
  return { object: "error", ...pythonError(error), param, code: status };
}
