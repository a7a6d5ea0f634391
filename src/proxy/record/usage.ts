/** Reads from answers what they cost and how they ended, for every dialect. */

import { type EngineError, readEngineError } from "./engine-error.ts";
import { skipValue } from "../json/walk.ts";
import { isRecord, parseJson } from "../../util/json.ts";

/** Tokens; null where the engine does not say. An explicit 0 is 0. */
export interface Usage {
  input: number | null;
  output: number | null;
  cachedInput: number | null;
  reasoning: number | null;
}

export interface AnswerFacts {
  usage: Usage | null;
  finishReason: string | null;
  error: EngineError | null;
}

export const NO_FACTS: AnswerFacts = { usage: null, finishReason: null, error: null };

/** What one JSON object of an answer says: a whole answer, or one event of a stream. */
export function factsOf(value: unknown): AnswerFacts {
  if (!isRecord(value)) return NO_FACTS;
  // Events of the Responses API and Anthropic's first event carry the answer inside.
  const inner = isRecord(value["response"])
    ? value["response"]
    : isRecord(value["message"])
      ? value["message"]
      : value;
  const hasError = value["error"] !== undefined && value["error"] !== null;
  return {
    usage:
      usageOf(value["usage"]) ??
      usageOf(inner["usage"]) ??
      ollamaUsage(value) ??
      tgiUsage(value["details"]),
    finishReason: finishOf(value),
    error: hasError || value["object"] === "error" ? readEngineError(value) : null,
  };
}

/** Later facts win where they say something; of usage, each number by itself. */
export function mergeFacts(earlier: AnswerFacts, later: AnswerFacts): AnswerFacts {
  const [a, b] = [earlier.usage, later.usage];
  return {
    usage:
      a && b
        ? {
            input: b.input ?? a.input,
            output: b.output ?? a.output,
            cachedInput: b.cachedInput ?? a.cachedInput,
            reasoning: b.reasoning ?? a.reasoning,
          }
        : (b ?? a),
    finishReason: later.finishReason ?? earlier.finishReason,
    error: later.error ?? earlier.error,
  };
}

const USAGE_KEY = Buffer.from('"usage"');
const FINISH_KEY = Buffer.from('"finish_reason"');
const CHOICES_KEY = Buffer.from('"choices"');
const ERROR = Buffer.from('"error"');
const SMALL_BYTES = 16 * 1024;
/** From this on most of an answer is text, which is better not read: if it is not ASCII it takes long. */
const SOME_BYTES = 1024;

/**
 * What a whole JSON answer says, of which `bytes` may be the end only: a small one is parsed, in a
 * large one (embeddings) the usage is looked for from its end.
 */
export function factsOfJson(bytes: Uint8Array, isWhole: boolean): AnswerFacts {
  if (isWhole && bytes.length <= SMALL_BYTES) {
    const plain = bytes.length >= SOME_BYTES ? factsOfPlainEnd(bytes) : null;
    return plain ?? factsOf(parseJson(decoder.decode(bytes)));
  }
  const usage = lastValue(bytes, USAGE_KEY);
  const finish = lastValue(bytes, FINISH_KEY);
  return {
    usage: usageOf(usage),
    finishReason: typeof finish === "string" ? finish : null,
    error: null,
  };
}

/**
 * What an answer with one choice says behind the text of it. With a new beginning in place of all that
 * stands before its only finish reason it is JSON again only if that stands where it should: engines
 * tell one of every choice. Null where it does not, where there may be an error, and where usage or
 * reason are told elsewhere.
 */
function factsOfPlainEnd(bytes: Uint8Array): AnswerFacts | null {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const at = all.lastIndexOf(FINISH_KEY);
  if (at === -1 || all.indexOf(FINISH_KEY) !== at) return null;
  if (!all.includes(CHOICES_KEY) || all.includes(ERROR)) return null;
  const facts = factsOf(parseJson(`{"choices":[{${decoder.decode(bytes.subarray(at))}`));
  return facts.usage === null || facts.finishReason === null ? null : facts;
}

const decoder = new TextDecoder();

function lastValue(bytes: Uint8Array, key: Buffer): unknown {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).lastIndexOf(key);
  if (at === -1) return undefined;
  let start = at + key.length;
  while (bytes[start] === 0x20 || bytes[start] === 0x3a) start += 1;
  try {
    return parseJson(decoder.decode(bytes.subarray(start, skipValue(bytes, start))));
  } catch {
    // The end of an answer may be cut anywhere: what is not a value says nothing.
    return undefined;
  }
}

/** OpenAI's two forms and Anthropic's. */
function usageOf(value: unknown): Usage | null {
  if (!isRecord(value)) return null;
  const input = count(value["prompt_tokens"]) ?? count(value["input_tokens"]);
  const output = count(value["completion_tokens"]) ?? count(value["output_tokens"]);
  if (input === null && output === null) return null;
  const inputDetails = value["prompt_tokens_details"] ?? value["input_tokens_details"];
  const outputDetails = value["completion_tokens_details"] ?? value["output_tokens_details"];
  return {
    input,
    output,
    cachedInput:
      (isRecord(inputDetails) ? count(inputDetails["cached_tokens"]) : null) ??
      count(value["cache_read_input_tokens"]),
    reasoning: isRecord(outputDetails) ? count(outputDetails["reasoning_tokens"]) : null,
  };
}

function ollamaUsage(value: Record<string, unknown>): Usage | null {
  const input = count(value["prompt_eval_count"]);
  const output = count(value["eval_count"]);
  if (input === null && output === null) return null;
  return { input, output, cachedInput: null, reasoning: null };
}

function tgiUsage(details: unknown): Usage | null {
  if (!isRecord(details)) return null;
  const output = count(details["generated_tokens"]);
  const input = count(details["input_length"]);
  return output === null ? null : { input, output, cachedInput: null, reasoning: null };
}

function finishOf(value: Record<string, unknown>): string | null {
  const choices: unknown = value["choices"];
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
  const { delta, response, details } = value;
  return (
    reason(isRecord(choice) ? choice["finish_reason"] : null) ??
    reason(isRecord(delta) ? delta["stop_reason"] : null) ??
    reason(value["stop_reason"]) ??
    reason(value["done_reason"]) ??
    reason(isRecord(details) ? details["finish_reason"] : null) ??
    reason(
      isRecord(response) && value["type"] === "response.completed" ? response["status"] : null,
    ) ??
    reason(value["object"] === "response" ? value["status"] : null)
  );
}

const MAX_REASON_CHARS = 64;

function reason(value: unknown): string | null {
  return typeof value === "string" ? value.slice(0, MAX_REASON_CHARS) : null;
}

function count(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}
