/** What a request's bytes tell of its prompt: how long it is, and where it is like others. */

import { createChain } from "./chain.ts";
import { textOf } from "./edits.ts";
import { lastMember, type Member, scanObject, type Span } from "./json-scan.ts";
import type { PromptFacts } from "../../protocol/replica-request.ts";
import type { Route } from "./routes.ts";

/** The members whose elements are messages: one more may be all that a later request adds. */
export const MESSAGE_LISTS: ReadonlySet<string> = new Set(["messages", "input"]);

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
const NESTED_LIMITS: readonly (readonly [member: string, key: string])[] = [
  ["options", "num_predict"],
  ["parameters", "max_new_tokens"],
  ["sampling_params", "max_new_tokens"],
];
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
  members: readonly Member[];
  model: string | null;
  route: Pick<Route, "operation">;
}

/** Operations whose prompts engines keep in their caches. */
const GENERATING: ReadonlySet<string> = new Set(["chat", "text_completion"]);

export function promptSource(input: PromptInput): PromptSource {
  const { bytes, members, route } = input;
  let held: PromptInput | null = input;
  let known: { facts: PromptFacts | null; hashed: boolean } | null = null;
  return {
    session: sessionOf(bytes, members),
    // By 16: a power of 2 needs no division of the whole number for each digit.
    bodyHash: `${bytes.length}-${Bun.hash.wyhash(bytes).toString(16)}`,
    read(hash) {
      if (!GENERATING.has(route.operation)) return null;
      if (held !== null && (known === null || (hash && !known.hashed))) {
        known = { facts: readPrompt(held, hash), hashed: hash };
      }
      return known?.facts ?? null;
    },
    free() {
      held = null;
    },
  };
}

function readPrompt({ bytes, members, model }: PromptInput, hash: boolean): PromptFacts | null {
  const sections = sectionsOf(bytes, members);
  if (sections.length === 0) return null;
  let length = 0;
  for (const section of sections) length += textBytes(bytes, section);
  const maxTokens = maxTokensOf(bytes, members);
  if (!hash) return { bytes: length, hashes: NONE, ends: NONE, maxTokens };
  const chain = createChain(seedOf(bytes, members, model));
  for (const section of sections) chain.read(bytes, section, section.elementEnds ?? []);
  const { hashes, ends } = chain.boundaries();
  return { bytes: length, hashes, ends, maxTokens };
}

const NONE = new Uint32Array();

/** How pictures and sounds begin inside a body: a URL `"data:...`, or a member `"data": "...`. */
const DATA = Buffer.from('"data');
/** Texts below this are counted as they are. */
const MIN_DATA_BYTES = 4096;
/** What a picture counts as: some thousand tokens, whatever its size. */
const DATA_COUNTS_BYTES = 4096;

/** The length of a section without what is no text, which costs engines far fewer tokens. */
function textBytes(bytes: Uint8Array, { start, end }: Span): number {
  let length = end - start;
  if (length < MIN_DATA_BYTES) return length;
  const section = Buffer.from(bytes.buffer, bytes.byteOffset + start, length);
  for (let at = section.indexOf(DATA); at !== -1; at = section.indexOf(DATA, at)) {
    const isEscaped = section[at - 1] === BACKSLASH;
    at += DATA.length;
    const begin = isEscaped ? -1 : dataBegin(section, at);
    const close = begin === -1 ? -1 : section.indexOf(QUOTE, begin);
    if (close === -1) continue;
    length -= Math.max(0, close - begin - DATA_COUNTS_BYTES);
    at = close;
  }
  return length;
}

/** Where the text begins that `"data` announces, or -1: it announces none. */
function dataBegin(section: Buffer, from: number): number {
  if (section[from] === COLON) return from;
  if (section[from] !== QUOTE) return -1;
  const colon = skipBlanks(section, from + 1);
  const value = skipBlanks(section, colon + 1);
  return section[colon] === COLON && section[value] === QUOTE ? value + 1 : -1;
}

function skipBlanks(section: Buffer, from: number): number {
  let at = from;
  while (section[at] === 0x20 || section[at] === 0x0a) at += 1;
  return at;
}

/** Texts and lists only: an object under one of these names is about something else. */
function sectionsOf(bytes: Uint8Array, members: readonly Member[]): Member[] {
  const found: Member[] = [];
  for (const key of SECTIONS) {
    const member = lastMember(members, key);
    const first = member && bytes[member.start];
    if (member && (first === QUOTE || first === OPEN_ARRAY)) found.push(member);
  }
  return found;
}

/** The model with what else a cache is kept apart by. */
function seedOf(bytes: Uint8Array, members: readonly Member[], model: string | null): bigint {
  let seed = Bun.hash.wyhash(model ?? "");
  for (const key of SEEDS) {
    const member = lastMember(members, key);
    if (member) seed = Bun.hash.wyhash(bytes.subarray(member.start, member.end), seed);
  }
  return seed;
}

function maxTokensOf(bytes: Uint8Array, members: readonly Member[]): number | null {
  for (const key of LIMITS) {
    const found = countAt(bytes, lastMember(members, key));
    if (found !== null) return found;
  }
  for (const [key, inner] of NESTED_LIMITS) {
    const member = lastMember(members, key);
    if (!member || bytes[member.start] !== OPEN_OBJECT) continue;
    const object = bytes.subarray(member.start, member.end);
    const found = countAt(object, lastMember(scanObject(object, new Set([inner])), inner));
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
const BACKSLASH = 0x5c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const OPEN_OBJECT = 0x7b;
const MAX_NUMBER_BYTES = 20;
const decoder = new TextDecoder();

/** Longer names of conversations are cut: they would only fill memory. */
export const MAX_SESSION_CHARS = 256;

function sessionOf(bytes: Uint8Array, members: readonly Member[]): string | null {
  const named = textOf(bytes, members, "session_id") ?? textOf(bytes, members, "user");
  return named === null || named === "" ? null : named.slice(0, MAX_SESSION_CHARS);
}
