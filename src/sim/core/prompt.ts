/** Turns what a request says into prompts: text that decides the answer, and its tokens. */

import { isObject, type JsonObject } from "./body.ts";
import { invalidField } from "./refuse.ts";
import { countTokens, decodeTokens, encodeTokens } from "./text.ts";

export interface Prompt {
  text: string;
  tokens: number;
}

/**
 * The pieces that the simulated chat template makes of a conversation. Each piece is tokenized for
 * itself, as special tokens separate messages in a real template: so the tokens of a conversation
 * are always the beginning of the tokens of the same conversation with an answer begun.
 */
function chatPieces(body: JsonObject): string[] {
  const messages = body["messages"];
  if (messages === undefined) throw invalidField("messages", "missing", "Field required");
  if (!Array.isArray(messages) || messages.length === 0) {
    throw invalidField("messages", "list_type", "Input should be a valid non-empty list");
  }
  const goesOn = body["continue_final_message"] === true;
  if (goesOn && body["add_generation_prompt"] === true) {
    throw invalidField(
      "continue_final_message",
      "value_error",
      "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
    );
  }
  const pieces: string[] = [];
  const tools = body["tools"];
  if (Array.isArray(tools) && tools.length > 0) pieces.push(`tools: ${JSON.stringify(tools)}\n`);
  messages.forEach((message: unknown, i) => {
    if (!isObject(message) || typeof message["role"] !== "string") {
      throw invalidField(`messages.${i}.role`, "missing", "Field required");
    }
    const content = contentText(message);
    if (goesOn && i === messages.length - 1) pieces.push(`${message["role"]}: `, content);
    else pieces.push(`${message["role"]}: ${content}\n`);
  });
  if (!goesOn && body["add_generation_prompt"] !== false) pieces.push("assistant: ");
  return pieces;
}

export function chatPrompt(body: JsonObject): Prompt {
  const pieces = chatPieces(body);
  return {
    text: pieces.join(""),
    tokens: pieces.reduce((sum, piece) => sum + countTokens(piece), 0),
  };
}

/**
 * One prompt or several: a text, a list of texts, a list of token ids, a list of those.
 * `field` names where they stand. Throws `bad_request` for anything else.
 */
export function promptList(given: unknown, field: string): Prompt[] {
  if (given === undefined || given === null) {
    throw invalidField(field, "missing", "Field required");
  }
  if (typeof given === "string") return [textPrompt(given)];
  if (Array.isArray(given) && given.length > 0) {
    if (isIdList(given)) return [idPrompt(given)];
    return given.map((one: unknown) => {
      if (typeof one === "string") return textPrompt(one);
      if (Array.isArray(one) && isIdList(one)) return idPrompt(one);
      throw invalidField(field, "list_type", "Input should be texts or lists of token ids");
    });
  }
  throw invalidField(field, "string_type", "Input should be a valid string or non-empty list");
}

/** The token ids of a request to `/tokenize`, which takes a conversation or a prompt. */
export function tokenizeRequest(body: JsonObject): number[] {
  if (body["messages"] !== undefined) return chatPieces(body).flatMap(encodeTokens);
  if (typeof body["prompt"] !== "string") throw invalidField("prompt", "missing", "Field required");
  return encodeTokens(body["prompt"]);
}

/** The token ids of a request to `/detokenize`. */
export function detokenizeRequest(
  body: JsonObject,
  message = "Input should be a valid list of token ids",
): number[] {
  const tokens = body["tokens"];
  if (Array.isArray(tokens) && isIdList(tokens)) return tokens;
  throw invalidField("tokens", "list_type", message);
}

export function isIdList(list: unknown[]): list is number[] {
  return list.every((id) => Number.isSafeInteger(id) && Number(id) >= 0);
}

function contentText(message: JsonObject): string {
  const content = message["content"];
  const calls = message["tool_calls"];
  const called = Array.isArray(calls) ? JSON.stringify(calls) : "";
  if (typeof content === "string") return content + called;
  if (!Array.isArray(content)) return called;
  return content.map(partText).join("") + called;
}

/** An image or a sound counts as one short mark, not as its base64 text. */
function partText(part: unknown): string {
  if (typeof part === "string") return part;
  if (!isObject(part)) return "";
  if (typeof part["text"] === "string") return part["text"];
  return `<${String(part["type"])} ${Bun.hash.xxHash64(JSON.stringify(part)).toString(16)}>`;
}

/** All tokens of some prompts. */
export function tokensOf(prompts: readonly Prompt[]): number {
  return prompts.reduce((sum, prompt) => sum + prompt.tokens, 0);
}

export function textPrompt(text: string): Prompt {
  return { text, tokens: countTokens(text) };
}

function idPrompt(ids: number[]): Prompt {
  return { text: decodeTokens(ids), tokens: ids.length };
}
