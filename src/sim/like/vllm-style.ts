/** How vLLM writes chats, completions and errors. */

import { failureOf, pythonError } from "../core/refuse.ts";
import { promptDetails, toolCallsOf, type OpenAiStyle, type StyledChoice } from "../wire/openai.ts";
import type { Usage } from "../wire/wire.ts";

// Sources: vLLM's entrypoints/openai/*/protocol.py and serving.py (fields and their order),
// renderers/params.py and engine/serving.py (texts of errors).

export const vllmStyle: OpenAiStyle = {
  id: (kind, id) => `${kind === "chat" ? "chatcmpl" : "cmpl"}-${id}`,
  frame: ({ kind, id, created, model }) => [
    `"id":${JSON.stringify(id)},"object":"${kind === "chat" ? "chat.completion.chunk" : "text_completion"}","created":${created},"model":${JSON.stringify(model)},"choices":`,
    "",
  ],
  chat: {
    opening: ',"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null',
    openingEnd: ',"prompt_token_ids":null',
    before: ',"delta":{"content":"',
    after: '"}',
    tail: ',"logprobs":null,"finish_reason":null,"token_ids":null',
    finish: (reason) =>
      `,"delta":{"content":""},"logprobs":null,"finish_reason":"${reason}","stop_reason":null,"token_ids":null`,
    // The name of a transition: newer versions say `reasoning`, older ones `reasoning_content`.
    reasoning: ["reasoning", "reasoning_content"],
  },
  completion: {
    before: ',"text":"',
    after: '"',
    tail: ',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null',
    finish: (reason) =>
      `,"text":"","logprobs":null,"finish_reason":"${reason}","stop_reason":null,"prompt_token_ids":null,"token_ids":null`,
  },
  tellsCached: true,
  nullUsage: (kind) => kind === "completion",
  timings: null,
  // Python's json.dumps spacing.
  errorFrame: (error) => {
    const { message, type, param, code } = vllmError(error);
    return `data: {"error": {"message": ${JSON.stringify(message)}, "type": "${type}", "param": ${JSON.stringify(param)}, "code": ${code}}}\n\n`;
  },
  doneAfterError: true,
  body: ({ kind, id, created, model }, choices, usage) => {
    const rest = { service_tier: null, system_fingerprint: null, usage: vllmUsage(usage) };
    if (kind === "completion") {
      const object = "text_completion";
      const list = choices.map(completionChoice);
      return { id, object, created, model, choices: list, ...rest, kv_transfer_params: null };
    }
    return {
      id,
      object: "chat.completion",
      created,
      model,
      choices: choices.map(chatChoice),
      ...rest,
      prompt_logprobs: null,
      prompt_token_ids: null,
      kv_transfer_params: null,
    };
  },
};

function completionChoice({ index, text, logprobs, reason }: StyledChoice): object {
  return {
    index,
    text,
    logprobs,
    finish_reason: reason,
    stop_reason: null,
    token_ids: null,
    prompt_logprobs: null,
    prompt_token_ids: null,
  };
}

function chatChoice(choice: StyledChoice): object {
  const { index, text, reasoning, logprobs, reason, calls } = choice;
  return {
    index,
    message: {
      role: "assistant",
      content: text,
      refusal: null,
      annotations: null,
      audio: null,
      function_call: null,
      ...(calls.length > 0 ? { tool_calls: toolCallsOf(choice) } : {}),
      reasoning,
      ...(reasoning === null ? {} : { reasoning_content: reasoning }),
    },
    logprobs,
    finish_reason: reason,
    stop_reason: null,
    token_ids: null,
  };
}

/** The inner object of an error; unlike OpenAI's its `code` is the status. */
export function vllmError(error: unknown) {
  const { status, param } = failureOf(error);
  const { message, type } = pythonError(error);
  return { message, type, param, code: status };
}

export function vllmUsage(usage: Usage): object {
  const { promptTokens, completionTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
    // As with --enable-prompt-tokens-details, where there is a cache.
    prompt_tokens_details: promptDetails(usage),
  };
}
