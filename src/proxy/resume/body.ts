/** Which requests may go on elsewhere after a break, and the bodies that make them do so. */

import { isRecord, type JsonRecord, parseJson } from "../../util/json.ts";

/** The two routes whose answers can be continued. */
export type ResumeKind = "chat" | "completion";

const KINDS: ReadonlyMap<string, ResumeKind> = new Map([
  ["/v1/chat/completions", "chat"],
  ["/v1/completions", "completion"],
]);

/** What vLLM and SGLang write at most on `/v1/completions` when nothing is said of it. */
const COMPLETION_TOKENS = 16;

/** A request that may go on, as the engine got it. */
export interface ResumableBody {
  kind: ResumeKind;
  body: JsonRecord;
  /** Whether the engine was asked for a frame of usage. */
  wantsUsage: boolean;
  /** The most tokens of the whole answer; null: as many as there is room for. */
  maxTokens: number | null;
}

export function resumeKindOf(path: string): ResumeKind | null {
  return KINDS.get(path) ?? null;
}

/** Null where continuing is not known to give the answer that was asked for. */
export function readResumable(kind: ResumeKind, bytes: Uint8Array): ResumableBody | null {
  const body = parseJson(new TextDecoder().decode(bytes));
  if (!isRecord(body)) return null;
  const rules = kind === "chat" ? CHAT_FIELDS : COMPLETION_FIELDS;
  const allowed = Object.entries(body).every(([name, value]) => {
    const rule = rules.get(name) ?? FIELDS.get(name);
    return rule !== undefined && (value === null || rule(value));
  });
  if (!allowed) return null;
  const options = body["stream_options"];
  const wantsUsage = isRecord(options) && options["include_usage"] === true;
  return { kind, body, wantsUsage, maxTokens: maxTokensOf(kind, body) };
}

/** Bodies for `/tokenize`: of the prompt as it was, and with the text so far. */
export function tokenizeBodies(
  { kind, body }: ResumableBody,
  text: string,
): { before: JsonRecord; after: JsonRecord } {
  const { model } = body;
  if (kind === "completion") {
    const prompt = String(body["prompt"]);
    return { before: { model, prompt }, after: { model, prompt: prompt + text } };
  }
  const template = pick(body, ["chat_template", "chat_template_kwargs"]);
  const { messages } = body;
  return {
    before: { model, messages, add_generation_prompt: true, ...template },
    after: { model, ...continued(body, text), ...template },
  };
}

/**
 * The body that has the rest of the answer written, of which `text` is there. `tokensLeft`: the most
 * that may come, null for a request without a limit.
 */
export function continuationBody(
  { kind, body }: ResumableBody,
  { text, tokensLeft }: { text: string; tokensLeft: number | null },
): JsonRecord {
  // The name by which the broken attempt was known.
  const { rid: _, ...rest } = body;
  if (text === "") return rest;
  const made: JsonRecord =
    kind === "chat"
      ? { ...rest, ...continued(body, text) }
      : { ...rest, prompt: String(body["prompt"]) + text };
  if (tokensLeft === null) return made;
  const { max_completion_tokens: newer, max_tokens: __, ...unlimited } = made;
  const name = kind === "chat" && newer != null ? "max_completion_tokens" : "max_tokens";
  return { ...unlimited, [name]: tokensLeft };
}

function continued(body: JsonRecord, text: string): JsonRecord {
  const messages = Array.isArray(body["messages"]) ? body["messages"] : [];
  return {
    messages: [...messages, { role: "assistant", content: text }],
    add_generation_prompt: false,
    continue_final_message: true,
  };
}

function maxTokensOf(kind: ResumeKind, body: JsonRecord): number | null {
  const limit = body["max_tokens"];
  if (kind === "completion") {
    return limit === undefined ? COMPLETION_TOKENS : typeof limit === "number" ? limit : null;
  }
  const newer = body["max_completion_tokens"] ?? limit;
  return typeof newer === "number" ? newer : null;
}

function pick(body: JsonRecord, names: readonly string[]): JsonRecord {
  return Object.fromEntries(
    names.flatMap((name) => (body[name] === undefined ? [] : [[name, body[name]]])),
  );
}

type Rule = (value: unknown) => boolean;

const any: Rule = () => true;
const isCount: Rule = (value) => Number.isSafeInteger(value) && Number(value) > 0;
const isText: Rule = (value) => typeof value === "string";
const isEmpty: Rule = (value) => value === "" || (Array.isArray(value) && value.length === 0);

function only(...values: readonly unknown[]): Rule {
  return (value) => values.includes(value);
}

/**
 * The fields that a resumable request may have, `null` always among their values; any other field
 * forbids it. What is listed with one value changes what engines write, or how it is to be read, when
 * it has another: a second engine would begin to count, to look for a stop or to draw again.
 */
const FIELDS: ReadonlyMap<string, Rule> = new Map([
  ["model", isText],
  ["stream", only(true)],
  ["stream_options", (value) => isRecord(value) && value["continuous_usage_stats"] !== true],
  ["max_tokens", isCount],
  ["temperature", any],
  ["top_p", any],
  ["top_k", any],
  ["min_p", any],
  ["logit_bias", any],
  ["user", any],
  ["metadata", any],
  ["store", any],
  ["service_tier", any],
  ["safety_identifier", any],
  ["prompt_cache_key", any],
  ["session_id", any],
  ["cache_salt", any],
  ["priority", any],
  ["rid", any],
  ["n", only(1)],
  ["best_of", only(1)],
  ["logprobs", only(false)],
  ["echo", only(false)],
  ["stop", isEmpty],
  ["stop_token_ids", isEmpty],
  ["min_tokens", only(0)],
  ["ignore_eos", only(false)],
  ["presence_penalty", only(0)],
  ["frequency_penalty", only(0)],
  ["repetition_penalty", only(1)],
  ["use_beam_search", only(false)],
  ["skip_special_tokens", only(true)],
  ["spaces_between_special_tokens", only(true)],
  ["response_format", (value) => isRecord(value) && value["type"] === "text"],
  // Null only: none of these is listed with a value.
  ["seed", only()],
  ["structured_outputs", only()],
  ["guided_json", only()],
  ["guided_regex", only()],
  ["guided_choice", only()],
  ["guided_grammar", only()],
]);

const CHAT_FIELDS: ReadonlyMap<string, Rule> = new Map([
  ["messages", isConversation],
  ["max_completion_tokens", isCount],
  ["chat_template", any],
  ["chat_template_kwargs", any],
  ["add_generation_prompt", only(true)],
  ["continue_final_message", only(false)],
  ["tools", isEmpty],
  ["functions", isEmpty],
  ["tool_choice", only("none", "auto")],
  ["parallel_tool_calls", any],
  ["top_logprobs", only(0)],
]);

const COMPLETION_FIELDS: ReadonlyMap<string, Rule> = new Map([
  ["prompt", isText],
  ["suffix", isEmpty],
]);

/** Tools are in play where one was called before; a last word of the assistant's would be continued. */
function isConversation(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  const last: unknown = value.at(-1);
  if (isRecord(last) && last["role"] === "assistant") return false;
  return value.every(
    (message: unknown) =>
      isRecord(message) &&
      message["role"] !== "tool" &&
      message["role"] !== "function" &&
      message["function_call"] == null &&
      (message["tool_calls"] == null || isEmpty(message["tool_calls"])),
  );
}
