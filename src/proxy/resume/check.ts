/** Asks an engine whether it would go on exactly where an answer stopped, and how long that answer is. */

import { tokenizeBodies, type ResumableBody } from "./body.ts";
import { isRecord, type JsonRecord, parseJson } from "../../util/json.ts";

/** In tokens of the engine that was asked. */
export interface Measure {
  prompt: number;
  produced: number;
}

/**
 * Posts to the engine; the answer, or null for any status but 200 and for one that is larger. Throws
 * what the way throws.
 */
export type Ask = (path: string, body: JsonRecord, maxBytes: number) => Promise<Uint8Array | null>;

export type Checked =
  | { kind: "ok"; measure: Measure }
  /** Not behind this text, or it does not tell. */
  | { kind: "unsure" }
  /** With this model it never does. */
  | { kind: "never" };

/** A list of tokens is a multiple of the texts that were sent, which are limited. */
const MAX_ANSWER_BYTES = 32 * 1024 * 1024;

/**
 * A chat goes on rightly when the tokens of the conversation with the begun answer start with those of
 * the conversation whose answer is to begin, and the rest says the begun answer: chat templates that
 * close the answer, cut its white space or take thoughts out of it do not. Source: `/tokenize` and
 * `/detokenize` of vLLM and SGLang.
 */
export async function checkContinuation(
  ask: Ask,
  request: ResumableBody,
  text: string,
): Promise<Checked> {
  const { before, after } = tokenizeBodies(request, text);
  const prompt = await tokensOf(ask, before);
  const both = prompt === null ? null : await tokensOf(ask, after);
  if (prompt === null || both === null) return { kind: "unsure" };
  const produced = both.length - prompt.length;
  if (request.kind === "chat") {
    if (!prompt.every((token, i) => both[i] === token)) return { kind: "never" };
    const decoded = await textOf(ask, {
      model: before["model"],
      tokens: both.slice(prompt.length),
    });
    // Some tokenizers take the space before the first word for their own.
    if (decoded?.trimStart() !== text.trimStart()) return { kind: "unsure" };
  }
  if (produced <= 0) return { kind: "unsure" };
  return { kind: "ok", measure: { prompt: prompt.length, produced } };
}

async function tokensOf(ask: Ask, body: JsonRecord): Promise<number[] | null> {
  const answer = read(await ask("/tokenize", body, MAX_ANSWER_BYTES));
  const tokens = isRecord(answer) ? answer["tokens"] : null;
  if (!Array.isArray(tokens)) return null;
  return tokens.every((token) => typeof token === "number") ? tokens : null;
}

/** vLLM calls it `prompt`, SGLang `text`. */
async function textOf(ask: Ask, body: JsonRecord): Promise<string | null> {
  const answer = read(await ask("/detokenize", body, MAX_ANSWER_BYTES));
  if (!isRecord(answer)) return null;
  const decoded = answer["prompt"] ?? answer["text"];
  return typeof decoded === "string" ? decoded : null;
}

function read(bytes: Uint8Array | null): unknown {
  return bytes === null ? undefined : parseJson(new TextDecoder().decode(bytes));
}
