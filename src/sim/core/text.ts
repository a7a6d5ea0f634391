/** The simulated tokenizer and the text that the engine "generates", both pure functions. */

/** A token is this many bytes of UTF-8; the last token of a text may be shorter. */
const TOKEN_BYTES = 4;

/** How every answer begins: three whole tokens. */
export const MARK = "[simulated] ";

const MARK_TOKENS = ["[sim", "ulat", "ed] "];

/** All the tokens that an answer is made of: syllables of four ASCII letters or three and a space. */
const SYLLABLES = syllables();

const encoder = new TextEncoder();

/** How many tokens a text has. */
export function countTokens(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / TOKEN_BYTES);
}

/** Where an answer begins: the text before it decides what is said, `position` where it goes on. */
export interface Origin {
  seed: number;
  position: number;
}

/**
 * The origin of an answer to a prompt. A prompt that ends with the beginning of this engine's own
 * answer to what stands before it is continued exactly where it stops, so that a stream resumed
 * elsewhere can be compared byte for byte with one that was never broken.
 */
export function originOf(model: string, prompt: string, choice = 0): Origin {
  for (const at of choice === 0 ? beginnings(prompt) : []) {
    const begun = prompt.slice(at);
    const position = begun.length / TOKEN_BYTES;
    const seed = seedOf(model, prompt.slice(0, at), choice);
    if (Number.isInteger(position) && textOf({ seed, position: 0 }, position) === begun) {
      return { seed, position };
    }
  }
  return { seed: seedOf(model, prompt, choice), position: 0 };
}

/** Where an answer may begin in a prompt; one that was broken off may have no whole mark yet. */
function beginnings(prompt: string): number[] {
  const cut = [2, 1]
    .map((tokens) => MARK_TOKENS.slice(0, tokens).join(""))
    .filter((begun) => prompt.endsWith(begun))
    .map((begun) => prompt.length - begun.length);
  const whole = prompt.lastIndexOf(MARK);
  return whole >= 0 ? [whole, ...cut] : cut;
}

/** The token at an index of the answer, counted from the origin. */
export function tokenAt(origin: Origin, index: number): string {
  const position = origin.position + index;
  const mark = MARK_TOKENS[position];
  if (mark !== undefined) return mark;
  return SYLLABLES[mix(origin.seed, position) % SYLLABLES.length] ?? "";
}

/** The first `count` tokens of the answer from its origin on, as one text. */
export function textOf(origin: Origin, count: number): string {
  let text = "";
  for (let i = 0; i < count; i++) text += tokenAt(origin, i);
  return text;
}

/**
 * The ids of a text's tokens. An id holds the token's bytes, big-endian, after the ids of all
 * shorter tokens, so that `decodeTokens` gives back the exact text.
 */
export function encodeTokens(text: string): number[] {
  const bytes = encoder.encode(text);
  const ids: number[] = [];
  for (let at = 0; at < bytes.length; at += TOKEN_BYTES) {
    const chunk = bytes.subarray(at, at + TOKEN_BYTES);
    ids.push(chunk.reduce((id, byte) => id * 256 + byte, 0) + firstId(chunk.length));
  }
  return ids;
}

/** The text of token ids; ids that no token has become U+FFFD. */
export function decodeTokens(ids: readonly number[]): string {
  const bytes: number[] = [];
  for (const id of ids) {
    let length = TOKEN_BYTES;
    while (length > 1 && id < firstId(length)) length -= 1;
    const value = id - firstId(length);
    if (!(value >= 0 && value < 256 ** length)) bytes.push(0xef, 0xbf, 0xbd);
    else for (let i = length - 1; i >= 0; i--) bytes.push(Math.floor(value / 256 ** i) % 256);
  }
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes));
}

/** A unit vector that depends on the model and the text alone. */
export function embeddingOf(model: string, text: string, dimensions: number): Float32Array {
  const seed = seedOf(model, text, 0);
  const vector = new Float32Array(dimensions);
  let sum = 0;
  for (let i = 0; i < dimensions; i++) {
    const value = mix(seed, i) / 2 ** 31 - 1;
    vector[i] = value;
    sum += value * value;
  }
  const norm = Math.sqrt(sum) || 1;
  return vector.map((value) => value / norm);
}

function firstId(length: number): number {
  return (256 ** length - 256) / 255;
}

function seedOf(model: string, prompt: string, choice: number): number {
  const ofModel = Bun.hash.xxHash64(model, BigInt(choice));
  return Number(Bun.hash.xxHash64(prompt, ofModel) & 0xffffffffn);
}

/** The finaliser of MurmurHash3 over a Weyl sequence: 32 well spread bits for each index. */
function mix(seed: number, index: number): number {
  let h = (seed + Math.imul(index + 1, 0x9e3779b9)) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function syllables(): string[] {
  const list: string[] = [];
  for (const first of "bdfgklmnprstvz") {
    for (const vowel of "aeiou") {
      for (const last of "lmnrst") list.push(`${first}${vowel}${last} `);
      for (const next of "dklmnrtv") list.push(`${first}${vowel}${next}a`);
    }
  }
  return list;
}
