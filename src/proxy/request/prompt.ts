/** What a request's bytes tell of its prompt: how long it is, and where it is like others. */

import { Names } from "../json/names.ts";
import { type Member, type ScannedObject, scanObject, type Span } from "../json/scan.ts";
import { createChain, MAX_HASHED_BYTES } from "./chain.ts";
import { textOf } from "./edits.ts";
import type { PromptFacts } from "../../protocol/replica-request.ts";
import type { Route } from "./routes.ts";

/** The members whose elements are messages: one more may be all that a later request adds. */
export const MESSAGE_LISTS: readonly string[] = ["messages", "input"];

/** In the order in which chat templates render them: what a prompt begins with comes first. */
const SECTIONS = [
  "tools",
  "system",
  "instructions",
  "messages",
  "prompt",
  "input",
  "inputs",
  "text",
] as const;

/** What changes the meaning of a prompt for an engine's cache. */
const SEEDS = ["lora_path", "cache_salt"] as const;

/** The members of a body that tell of its prompt, beside those of `payload.ts`. */
export const PROMPT_MEMBERS: readonly string[] = [
  ...SECTIONS,
  ...SEEDS,
  "session_id",
  "user",
  "max_tokens",
  "max_completion_tokens",
  "max_output_tokens",
  "n_predict",
  "options",
  "parameters",
  "sampling_params",
];

/** Where else a limit of the answer may be: Ollama's, TGI's, SGLang's. */
const NESTED_LIMITS: readonly { member: string; name: string; names: Names }[] = [
  { member: "options", name: "num_predict", names: new Names(["num_predict"]) },
  { member: "parameters", name: "max_new_tokens", names: new Names(["max_new_tokens"]) },
  { member: "sampling_params", name: "max_new_tokens", names: new Names(["max_new_tokens"]) },
];
/** In what is longer no limit is looked for. */
const MAX_NESTED_BYTES = 64 * 1024;
const LIMITS = ["max_completion_tokens", "max_tokens", "max_output_tokens", "n_predict"] as const;

/** What the body says beside what is to be done. */
export interface PromptSource {
  /** The client's name for the conversation; null: it gave none. */
  session: string | null;
  /** Names the body as it is sent; null: it is not held. */
  bodyHash: string | null;
  /** Null: there is no prompt. Without `hash` only its length is found. */
  read(hash: boolean): PromptFacts | null;
  /** Lets the body go. */
  free(): void;
}

export const NO_PROMPT: PromptSource = {
  session: null,
  bodyHash: null,
  read: () => null,
  free() {},
};

/** What a body that was scanned with PROMPT_MEMBERS and MESSAGE_LISTS asks. */
export interface PromptInput {
  bytes: Uint8Array;
  object: ScannedObject;
  model: string | null;
  bodyHash: string;
  route: Pick<Route, "operation">;
}

/** Operations whose prompts engines keep in their caches. */
const GENERATING: ReadonlySet<string> = new Set(["chat", "text_completion"]);

export class JsonPrompt implements PromptSource {
  readonly session: string | null;
  readonly bodyHash: string;
  #held: PromptInput | null;
  #known: PromptFacts | null = null;
  #isRead = false;
  #isHashed = false;

  constructor(input: PromptInput) {
    this.session = sessionOf(input.bytes, input.object);
    this.bodyHash = input.bodyHash;
    this.#held = GENERATING.has(input.route.operation) ? input : null;
  }

  read(hash: boolean): PromptFacts | null {
    const held = this.#held;
    if (held !== null && (!this.#isRead || (hash && !this.#isHashed))) {
      this.#known = readPrompt(held, hash);
      this.#isRead = true;
      this.#isHashed = hash;
    }
    return this.#known;
  }

  free(): void {
    this.#held = null;
  }
}

function readPrompt({ bytes, object, model }: PromptInput, hash: boolean): PromptFacts | null {
  const sections = sectionsOf(bytes, object);
  if (sections.length === 0) return null;
  // What is no text costs engines far fewer tokens.
  let length = 0;
  for (const { start, end, dataBytes } of sections) length += end - start - dataBytes;
  const maxTokens = maxTokensOf(bytes, object);
  if (!hash) return { bytes: length, hashes: NONE, ends: NONE, maxTokens };
  const chain = createChain(seedOf(bytes, object, model));
  for (const section of sections) chain.read(bytes, section, section.elementEnds);
  const { hashes, ends } = chain.boundaries();
  return { bytes: length, hashes, ends, maxTokens };
}

const NONE = new Uint32Array();

/** Texts and lists only: an object under one of these names is about something else. */
function sectionsOf(bytes: Uint8Array, object: ScannedObject): Member[] {
  const found: Member[] = [];
  for (const key of SECTIONS) {
    const member = object.get(key);
    const first = member && bytes[member.start];
    if (member && (first === QUOTE || first === OPEN_ARRAY)) found.push(member);
  }
  return found;
}

/** The model with what else a cache is kept apart by. */
function seedOf(bytes: Uint8Array, object: ScannedObject, model: string | null): bigint {
  let seed = Bun.hash.wyhash(model ?? "");
  for (const key of SEEDS) {
    const member = object.get(key);
    if (!member) continue;
    const end = Math.min(member.end, member.start + MAX_HASHED_BYTES);
    seed = Bun.hash.wyhash(bytes.subarray(member.start, end), seed);
  }
  return seed;
}

function maxTokensOf(bytes: Uint8Array, object: ScannedObject): number | null {
  for (const key of LIMITS) {
    const found = countAt(bytes, object.get(key));
    if (found !== null) return found;
  }
  for (const { member, name, names } of NESTED_LIMITS) {
    const span = object.get(member);
    if (!span || bytes[span.start] !== OPEN_OBJECT) continue;
    if (span.end - span.start > MAX_NESTED_BYTES) continue;
    const inner = bytes.subarray(span.start, span.end);
    const found = countAt(inner, scanObject(inner, names).get(name));
    if (found !== null) return found;
  }
  return null;
}

/** A whole number of at least 0, else null: Ollama's -1 stands for no limit. */
function countAt(bytes: Uint8Array, span: Span | undefined): number | null {
  if (!span || span.end - span.start > MAX_NUMBER_BYTES) return null;
  const value = Number(decoder.decode(bytes.subarray(span.start, span.end)));
  return Number.isSafeInteger(value) && value >= 0 ? value : null;
}

const QUOTE = 0x22;
const OPEN_ARRAY = 0x5b;
const OPEN_OBJECT = 0x7b;
const MAX_NUMBER_BYTES = 20;
const decoder = new TextDecoder();

/** Longer names of conversations are cut: they would only fill memory. */
export const MAX_SESSION_CHARS = 256;

function sessionOf(bytes: Uint8Array, object: ScannedObject): string | null {
  const named = textOf(bytes, object.get("session_id")) ?? textOf(bytes, object.get("user"));
  return named === null || named === "" ? null : named.slice(0, MAX_SESSION_CHARS);
}
