/** Reads what is asked of the engine on OpenAI's inference routes, and plans its answers. */

import { flag, integer, isObject, modelOf, type JsonObject, type Serving } from "./body.ts";
import { leadOf, type Lead } from "./lead.ts";
import { chatPrompt, promptList, tokensOf, type Prompt } from "./prompt.ts";
import { badValue, invalidField, tooLong } from "./refuse.ts";
import { originOf, type Origin } from "./text.ts";
import type { AnswerHead, AnswerKind, Wanted } from "../wire/openai.ts";
import type { FinishReason, Piece } from "../wire/wire.ts";

/** How long an answer is whose length the client leaves open. */
const NATURAL_TOKENS = 64;

/** vLLM's default of `max_tokens` on `/v1/completions`. */
const COMPLETION_TOKENS = 16;

/** Parallel answers to one request, at most. */
const MAX_CHOICES = 1024;

/** Alternatives to each token, at most (OpenAI's limit for chats). */
const MAX_LOGPROBS = 20;

export interface Choice {
  /** What is said before the text: thoughts, or tool calls in its place. */
  lead: readonly Piece[];
  origin: Origin;
  /** Output tokens of this choice, the lead included. */
  length: number;
  reason: FinishReason;
}

/** What the engine has to produce, whatever the format. */
export interface GenerationRequest {
  model: string;
  prompts: readonly Prompt[];
  choices: Choice[];
  stream: boolean;
  /** Usage in every frame. */
  continuousUsage: boolean;
}

interface OpenAiRequest {
  head: AnswerHead;
  wanted: Wanted;
  generation: GenerationRequest;
}

/**
 * A chat or completion request. `max_tokens` is taken at its word: the answer has exactly so many
 * tokens and ends with `length`; without it a chat has 64 and ends with `stop`. Tools are called
 * when `tool_choice` says so, never by the engine's own choice. `stop`, `seed`, `echo`, temperature
 * and other sampling parameters are accepted and change nothing.
 */
export function readGeneration(
  kind: AnswerKind,
  { body, id }: { body: JsonObject; id: string },
  serving: Serving,
): OpenAiRequest {
  const { named, model } = modelOf(body, serving);
  const stream = flag(body, "stream");
  const { includeUsage, continuousUsage } = streamOptions(body, stream, serving);
  const prompts = kind === "chat" ? [chatPrompt(body)] : promptList(body["prompt"], "prompt");
  const choices = planAll(
    { model, prompts, n: integer(body, "n") ?? 1, maxTokens: outputLimit(kind, body) },
    serving,
    kind === "chat" ? (prompt) => leadOf(body, model, prompt.text) : undefined,
  );
  return {
    head: { kind, id, created: Math.floor(Date.now() / 1000), model: named },
    wanted: { includeUsage, logprobs: logprobsOf(kind, body) },
    generation: { model, prompts, choices, stream, continuousUsage },
  };
}

interface Planned {
  model: string;
  prompts: readonly Prompt[];
  /** Choices for each prompt. */
  n: number;
  /** Null: the engine stops by itself. */
  maxTokens: number | null;
}

/** The answers to some prompts. Throws `bad_request`, `request_too_large`. */
function planAll(
  { model, prompts, n, maxTokens }: Planned,
  serving: Serving,
  lead: (prompt: Prompt) => Lead = () => NO_LEAD,
): Choice[] {
  if (n * prompts.length > MAX_CHOICES) {
    throw badValue("n", `n must be at most ${MAX_CHOICES}, got ${n}.`);
  }
  return prompts.flatMap((prompt) => {
    const room = serving.maxModelLen - prompt.tokens;
    if (room < (maxTokens ?? 1)) throw tooLong(serving.maxModelLen, prompt.tokens, maxTokens ?? 1);
    const begun = lead(prompt);
    return Array.from({ length: n }, (_, i) =>
      choiceOf(originOf(model, prompt.text, i), begun, { maxTokens, room }),
    );
  });
}

const NO_LEAD: Lead = { pieces: [], instead: null };

type Plain = Pick<GenerationRequest, "model" | "prompts" | "stream">;

/** One answer to each prompt, of exactly `maxTokens`; null: it ends by itself. */
export function plainRequest(
  { model, prompts, stream, maxTokens }: Plain & { maxTokens: number | null },
  serving: Serving,
): GenerationRequest {
  const choices = planAll({ model, prompts, n: 1, maxTokens }, serving);
  return { model, prompts, choices, stream, continuousUsage: false };
}

/** The same where the client bounds the length, but does not fix it: it ends by itself if it can. */
export function boundedRequest(
  { atMost, ...plain }: Plain & { atMost: number },
  serving: Serving,
): GenerationRequest {
  const tokens = tokensOf(plain.prompts);
  if (tokens + atMost > serving.maxModelLen) throw tooLong(serving.maxModelLen, tokens, atMost);
  return plainRequest({ ...plain, maxTokens: atMost >= NATURAL_TOKENS ? null : atMost }, serving);
}

function choiceOf(
  origin: Origin,
  { pieces, instead }: Lead,
  { maxTokens, room }: { maxTokens: number | null; room: number },
): Choice {
  // A text that goes on where it stopped has been thought about before.
  const lead = instead === null && origin.position > 0 ? [] : pieces;
  if (instead === null && maxTokens !== null) {
    return { lead, origin, length: maxTokens, reason: "length" };
  }
  const textTokens = instead === null ? Math.max(1, NATURAL_TOKENS - origin.position) : 0;
  const natural = lead.length + textTokens;
  const limit = maxTokens ?? room;
  return natural <= limit
    ? { lead, origin, length: natural, reason: instead ?? "stop" }
    : { lead, origin, length: limit, reason: "length" };
}

function outputLimit(kind: AnswerKind, body: JsonObject): number | null {
  const limit = integer(body, "max_tokens");
  if (kind === "chat") return integer(body, "max_completion_tokens") ?? limit;
  return body["max_tokens"] === undefined ? COMPLETION_TOKENS : limit;
}

/** A chat asks by `logprobs: true` and a number of `top_logprobs`, a completion by the number. */
function logprobsOf(kind: AnswerKind, body: JsonObject): number | null {
  const field = kind === "chat" ? "top_logprobs" : "logprobs";
  if (kind === "chat" && !flag(body, "logprobs")) return null;
  const top = integer(body, field, 0) ?? (kind === "chat" ? 0 : null);
  if (top !== null && top > MAX_LOGPROBS) {
    throw badValue(field, `${field} must be at most ${MAX_LOGPROBS}, got ${top}.`);
  }
  return top;
}

function streamOptions(body: JsonObject, stream: boolean, serving: Serving) {
  const given = body["stream_options"];
  if (given === undefined || given === null) return { includeUsage: false, continuousUsage: false };
  if (serving.refuseStreamOptions) {
    throw invalidField("stream_options", "extra_forbidden", "Extra inputs are not permitted");
  }
  if (!isObject(given)) {
    throw invalidField("stream_options", "model_type", "Input should be a valid dictionary");
  }
  if (!stream) {
    const message = "Stream options can only be defined when `stream=True`.";
    throw badValue("stream_options", message);
  }
  // vLLM's own default inside the object is true.
  const includeUsage = given["include_usage"] !== false && given["include_usage"] !== null;
  return {
    includeUsage,
    continuousUsage: includeUsage && given["continuous_usage_stats"] === true,
  };
}
