/** Reads the bodies of the inference routes and refuses what vLLM would refuse. */

import { LlmnodeError } from "../protocol/errors.ts";
import { chatPrompt, isObject, promptList, type JsonObject, type Prompt } from "./prompt.ts";
import { originOf, type Origin } from "./text.ts";
import {
  invalidField,
  tooLong,
  unknownModel,
  unsupportedMediaType,
  type AnswerHead,
  type AnswerKind,
} from "./vllm.ts";

/** How long an answer is whose length the client leaves open. */
const NATURAL_TOKENS = 64;

/** vLLM's default of `max_tokens` on `/v1/completions`. */
const COMPLETION_TOKENS = 16;

/** Parallel answers to one request, at most. */
const MAX_CHOICES = 1024;

/** Texts in one embedding request and numbers in a vector, at most (OpenAI's limits). */
const MAX_INPUTS = 2048;
const MAX_DIMENSIONS = 4096;
const DEFAULT_DIMENSIONS = 256;

/** What requests are checked against. */
export interface Serving {
  models: string[];
  maxModelLen: number;
}

export interface Choice {
  origin: Origin;
  /** Output tokens of this choice. */
  length: number;
  reason: "stop" | "length";
}

export interface GenerationRequest {
  head: AnswerHead;
  promptTokens: number;
  choices: Choice[];
  stream: boolean;
  includeUsage: boolean;
  continuousUsage: boolean;
}

export interface EmbeddingRequest {
  id: string;
  model: string;
  inputs: Prompt[];
  promptTokens: number;
  dimensions: number;
  base64: boolean;
}

/** The body, which like vLLM's must be labelled `application/json`. Throws `bad_request`. */
export async function readBody(req: Request): Promise<JsonObject> {
  const type = req.headers.get("content-type") ?? "";
  if (type.split(";", 1)[0]?.trim().toLowerCase() !== "application/json") {
    throw unsupportedMediaType();
  }
  const body: unknown = await req.json().catch((error: unknown) => {
    // A client that left while it was sending is no bad request; nobody reads the answer anyway.
    throw error instanceof SyntaxError
      ? invalidField(null, "json_invalid", "JSON decode error")
      : error;
  });
  if (!isObject(body)) {
    throw invalidField(null, "model_attributes_type", "Input should be a valid dictionary");
  }
  return body;
}

/** The model a body names, the first one if it names none. Throws `model_not_found`. */
export function modelOf(body: JsonObject, serving: Serving): string {
  const named = body["model"] ?? serving.models[0];
  if (typeof named !== "string") {
    throw invalidField("model", "string_type", "Input should be a valid string");
  }
  if (!serving.models.includes(named)) throw unknownModel(named);
  return named;
}

/**
 * A chat or completion request. `max_tokens` is taken at its word: the answer has exactly so many
 * tokens and ends with `length`; without it a chat has 64 and ends with `stop`. `stop`, `seed`,
 * `echo`, `logprobs`, temperature and other sampling parameters are accepted and change nothing.
 */
export function readGeneration(
  kind: AnswerKind,
  { body, id }: { body: JsonObject; id: string },
  serving: Serving,
): GenerationRequest {
  const model = modelOf(body, serving);
  const stream = flag(body, "stream");
  const options = streamOptions(body, stream);
  const n = integer(body, "n") ?? 1;
  const prompts = kind === "chat" ? [chatPrompt(body)] : promptList(body["prompt"], "prompt");
  const maxTokens = outputLimit(kind, body);
  if (n * prompts.length > MAX_CHOICES) {
    throw new LlmnodeError("bad_request", `n must be at most ${MAX_CHOICES}, got ${n}.`, {
      param: "n",
    });
  }
  const choices = prompts.flatMap(({ text, tokens }) => {
    const room = serving.maxModelLen - tokens;
    if (room < (maxTokens ?? 1)) throw tooLong(serving.maxModelLen, tokens, maxTokens ?? 1);
    return Array.from({ length: n }, (_, i) => choiceOf(originOf(model, text, i), maxTokens, room));
  });
  const prefix = kind === "chat" ? "chatcmpl" : "cmpl";
  return {
    head: { kind, id: `${prefix}-${id}`, created: Math.floor(Date.now() / 1000), model },
    promptTokens: prompts.reduce((sum, prompt) => sum + prompt.tokens, 0),
    choices,
    stream,
    ...options,
  };
}

export function readEmbedding(
  { body, id }: { body: JsonObject; id: string },
  serving: Serving,
): EmbeddingRequest {
  const model = modelOf(body, serving);
  const format = body["encoding_format"] ?? "float";
  if (format !== "float" && format !== "base64") {
    throw invalidField("encoding_format", "literal_error", "Input should be float or base64");
  }
  const dimensions = integer(body, "dimensions") ?? DEFAULT_DIMENSIONS;
  if (dimensions > MAX_DIMENSIONS) {
    throw new LlmnodeError("bad_request", `dimensions must be at most ${MAX_DIMENSIONS}`, {
      param: "dimensions",
    });
  }
  const inputs = promptList(body["input"], "input");
  if (inputs.length > MAX_INPUTS) {
    throw new LlmnodeError("bad_request", `input must have at most ${MAX_INPUTS} entries`, {
      param: "input",
    });
  }
  for (const { tokens } of inputs) {
    if (tokens > serving.maxModelLen) throw tooLong(serving.maxModelLen, tokens, 0);
  }
  return {
    id: `embd-${id}`,
    model,
    inputs,
    promptTokens: inputs.reduce((sum, input) => sum + input.tokens, 0),
    dimensions,
    base64: format === "base64",
  };
}

function choiceOf(origin: Origin, maxTokens: number | null, room: number): Choice {
  if (maxTokens !== null) return { origin, length: maxTokens, reason: "length" };
  const natural = Math.max(1, NATURAL_TOKENS - origin.position);
  return natural <= room
    ? { origin, length: natural, reason: "stop" }
    : { origin, length: room, reason: "length" };
}

function outputLimit(kind: AnswerKind, body: JsonObject): number | null {
  const limit = integer(body, "max_tokens");
  if (kind === "chat") return integer(body, "max_completion_tokens") ?? limit;
  return body["max_tokens"] === undefined ? COMPLETION_TOKENS : limit;
}

function streamOptions(body: JsonObject, stream: boolean) {
  const given = body["stream_options"];
  if (given === undefined || given === null) return { includeUsage: false, continuousUsage: false };
  if (!isObject(given)) {
    throw invalidField("stream_options", "model_type", "Input should be a valid dictionary");
  }
  if (!stream) {
    throw new LlmnodeError(
      "bad_request",
      "Stream options can only be defined when `stream=True`.",
      { param: "stream_options" },
    );
  }
  // vLLM's own default inside the object is true.
  const includeUsage = given["include_usage"] !== false && given["include_usage"] !== null;
  return {
    includeUsage,
    continuousUsage: includeUsage && given["continuous_usage_stats"] === true,
  };
}

function flag(body: JsonObject, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value !== "boolean") {
    throw invalidField(field, "bool_type", "Input should be a valid boolean");
  }
  return value;
}

function integer(body: JsonObject, field: string): number | null {
  const value = body[field] ?? null;
  if (value === null) return null;
  if (typeof value !== "number" || !Number.isSafeInteger(value)) {
    throw invalidField(field, "int_type", "Input should be a valid integer");
  }
  if (value < 1) {
    throw new LlmnodeError("bad_request", `${field} must be at least 1, got ${value}.`, {
      param: field,
    });
  }
  return value;
}
