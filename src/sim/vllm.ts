/** The dialect: every JSON shape, stream frame and error text as vLLM puts them on the wire. */

import { LlmnodeError } from "../protocol/errors.ts";

// Sources: vLLM's entrypoints/openai/*/protocol.py and serving.py (fields and their order),
// renderers/params.py and engine/serving.py (texts of errors).

/** What `owned_by` says, so that nobody takes this engine for a real one. */
const OWNER = "llmnode-sim";

export const VERSION = "0.11.0+llmnode.sim";
export const DONE = "data: [DONE]\n\n";

export type AnswerKind = "chat" | "completion";
export type FinishReason = "stop" | "length" | "abort";

/** What all frames of one answer repeat. `created` is in seconds. */
export interface AnswerHead {
  kind: AnswerKind;
  id: string;
  created: number;
  model: string;
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
}

export interface FinishedChoice {
  text: string;
  reason: FinishReason;
}

/** The frames of one stream; `usage` goes into each frame if the client asked for that. */
export interface Frames {
  /** One frame for each choice before its first token; completions have none. */
  opening(index: number, usage: Usage | null): string;
  /** `text` must need no JSON escapes: on the hot path nothing is serialised. */
  token(index: number, text: string, usage: Usage | null): string;
  finish(index: number, reason: FinishReason, usage: Usage | null): string;
  /** The last frame before `[DONE]`, without choices. */
  usage(usage: Usage): string;
}

export function createFrames(head: AnswerHead): Frames {
  const chat = head.kind === "chat";
  const object = chat ? "chat.completion.chunk" : "text_completion";
  const open = `data: {"id":${JSON.stringify(head.id)},"object":"${object}","created":${head.created},"model":${JSON.stringify(head.model)},"choices":[`;
  const choice = `${open}{"index":`;
  const delta = chat ? ',"delta":{"content":"' : ',"text":"';
  const tail = chat
    ? '"},"logprobs":null,"finish_reason":null,"token_ids":null}]'
    : '","logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":null}]';
  const close = (usage: Usage | null) =>
    usage ? `,"usage":${usageText(usage)}}\n\n` : chat ? "}\n\n" : ',"usage":null}\n\n';
  const plainTail = tail + close(null);
  return {
    opening: (index, usage) =>
      chat
        ? `${choice}${index},"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null${close(usage)}`
        : "",
    token: (index, text, usage) =>
      choice + index + delta + text + (usage ? tail + close(usage) : plainTail),
    finish: (index, reason, usage) =>
      chat
        ? `${choice}${index}${delta}"},"logprobs":null,"finish_reason":"${reason}","stop_reason":null,"token_ids":null}]${close(usage)}`
        : `${choice}${index}${delta}","logprobs":null,"finish_reason":"${reason}","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]${close(usage)}`,
    usage: (usage) => `${open}],"usage":${usageText(usage)}}\n\n`,
  };
}

/** The body of an answer that is not streamed. */
export function answerBody(head: AnswerHead, choices: FinishedChoice[], usage: Usage): object {
  const rest = {
    service_tier: null,
    system_fingerprint: null,
    usage: usageBody(usage),
  };
  if (head.kind === "completion") {
    return {
      id: head.id,
      object: "text_completion",
      created: head.created,
      model: head.model,
      choices: choices.map(({ text, reason }, index) => ({
        index,
        text,
        logprobs: null,
        finish_reason: reason,
        stop_reason: null,
        token_ids: null,
        prompt_logprobs: null,
        prompt_token_ids: null,
      })),
      ...rest,
      kv_transfer_params: null,
    };
  }
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices: choices.map(({ text, reason }, index) => ({
      index,
      message: {
        role: "assistant",
        content: text,
        refusal: null,
        annotations: null,
        audio: null,
        function_call: null,
        reasoning: null,
      },
      logprobs: null,
      finish_reason: reason,
      stop_reason: null,
      token_ids: null,
    })),
    ...rest,
    prompt_logprobs: null,
    prompt_token_ids: null,
    kv_transfer_params: null,
  };
}

/** The body of `/v1/embeddings`; base64 is little-endian 32 bit floats, as numpy writes them. */
export function embeddingsBody(
  head: { id: string; created: number; model: string },
  vectors: Float32Array[],
  { base64, promptTokens }: { base64: boolean; promptTokens: number },
): object {
  return {
    id: head.id,
    object: "list",
    created: head.created,
    model: head.model,
    data: vectors.map((vector, index) => ({
      index,
      object: "embedding",
      embedding: base64 ? littleEndian(vector).toString("base64") : [...vector],
    })),
    usage: usageBody({ promptTokens, completionTokens: 0 }),
  };
}

/** The body of `/v1/models`. `created` is in seconds. */
export function modelsBody(models: string[], created: number, maxModelLen: number): object {
  return {
    object: "list",
    data: models.map((id) => ({
      id,
      object: "model",
      created,
      owned_by: OWNER,
      root: id,
      parent: null,
      max_model_len: maxModelLen,
      permission: [
        {
          id: `modelperm-${Bun.hash.xxHash64(id).toString(16).padStart(32, "0")}`,
          object: "model_permission",
          created,
          allow_create_engine: false,
          allow_sampling: true,
          allow_logprobs: true,
          allow_search_indices: false,
          allow_view: true,
          allow_fine_tuning: false,
          organization: "*",
          group: null,
          is_blocking: false,
        },
      ],
    })),
  };
}

const VALIDATION = "1 validation error:\n";

/** A field, or with null the whole body, that vLLM's own check (pydantic) refuses. */
export function invalidField(field: string | null, type: string, message: string): LlmnodeError {
  const place = field === null ? "('body',)" : `('body', '${field}')`;
  const text = `  {'type': '${type}', 'loc': ${place}, 'msg': '${message}'}`;
  return new LlmnodeError("bad_request", VALIDATION + text, field === null ? {} : { param: field });
}

/** A body without `content-type: application/json`, which vLLM does not even read. */
export function unsupportedMediaType(): LlmnodeError {
  const text = "  Unsupported Media Type: Only 'application/json' is allowed";
  return new LlmnodeError("bad_request", VALIDATION + text);
}

/** A request that needs more tokens than the model can hold. */
export function tooLong(maxModelLen: number, input: number, output: number): LlmnodeError {
  return new LlmnodeError(
    "bad_request",
    `This model's maximum context length is ${maxModelLen} tokens. However, you requested ${output} output tokens and your prompt contains ${input} input tokens, for a total of ${input + output} tokens. Please reduce the length of the input prompt or the number of requested output tokens.`,
    { param: "input_tokens" },
  );
}

export function unknownModel(model: string): LlmnodeError {
  return new LlmnodeError("model_not_found", `The model \`${model}\` does not exist.`, {
    param: "model",
  });
}

/** The HTTP answer for an expected failure; anything else is the engine's own 500. */
export function errorResponse(error: unknown): Response {
  const code = error instanceof LlmnodeError ? error.code : "internal";
  // Unknown paths and methods are answered by FastAPI itself, in its own shape.
  if (code === "unknown_url") return Response.json({ detail: "Not Found" }, { status: 404 });
  if (error instanceof LlmnodeError && code === "method_not_allowed") {
    return Response.json(
      { detail: "Method Not Allowed" },
      { status: 405, headers: { allow: error.allow ?? "GET" } },
    );
  }
  const { status, body } = errorBody(error);
  return Response.json(body, { status });
}

/** The event that stands for a failure in the middle of a stream; Python's json.dumps spacing. */
export function errorFrame(error: unknown): string {
  const { message, type, param, code } = errorBody(error).body.error;
  return `data: {"error": {"message": ${JSON.stringify(message)}, "type": "${type}", "param": ${JSON.stringify(param)}, "code": ${code}}}\n\n`;
}

function errorBody(error: unknown) {
  const known = error instanceof LlmnodeError ? error : null;
  const [status, type] =
    known?.code === "model_not_found"
      ? [404, "NotFoundError"]
      : known?.code === "bad_request"
        ? [400, known.message.startsWith(VALIDATION) ? "Bad Request" : "BadRequestError"]
        : [500, "InternalServerError"];
  const message = known ? known.message : "Internal server error";
  return { status, body: { error: { message, type, param: known?.param ?? null, code: status } } };
}

function usageText({ promptTokens, completionTokens }: Usage): string {
  return `{"prompt_tokens":${promptTokens},"total_tokens":${promptTokens + completionTokens},"completion_tokens":${completionTokens}}`;
}

function usageBody({ promptTokens, completionTokens }: Usage): object {
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
    prompt_tokens_details: null,
  };
}

function littleEndian(vector: Float32Array): Buffer {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, i) => bytes.writeFloatLE(value, i * 4));
  return bytes;
}
