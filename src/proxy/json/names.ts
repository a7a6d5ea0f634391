/** Names of members that a scan looks for, compared by their bytes: most names are none of them. */

import { readString } from "./tokens.ts";

export interface Name {
  readonly text: string;
  /** Whether the ends of its elements are wanted too. */
  readonly isWalked: boolean;
}

const NO_NAMES: readonly never[] = [];
const BACKSLASH = 0x5c;
/** The longest escape of one character: `\u0061`. */
const MAX_ESCAPE_BYTES = 6;

export class Names {
  /** By the length of their bytes. */
  readonly #known: (Name & { bytes: Uint8Array })[][] = [];
  #maxBytes = 0;
  #isAscii = true;
  /** Room for a name without its escapes: a string for each of a million would be garbage. */
  readonly #plain: Uint8Array;

  constructor(names: Iterable<string>, { walked = [] }: { walked?: readonly string[] } = {}) {
    for (const text of names) {
      const bytes = new TextEncoder().encode(text);
      const same = (this.#known[bytes.length] ??= []);
      same.push({ text, bytes, isWalked: walked.includes(text) });
      this.#maxBytes = Math.max(this.#maxBytes, bytes.length);
      if (bytes.length !== text.length) this.#isAscii = false;
    }
    this.#plain = new Uint8Array(this.#maxBytes);
  }

  /** The one that the string at `bytes[start, end)` spells, which is given with its quotes. */
  find(bytes: Uint8Array, start: number, end: number): Name | null {
    const length = end - start - 2;
    const found = this.#findPlain(bytes, start + 1, length);
    if (found !== null || length > this.#maxBytes * MAX_ESCAPE_BYTES) return found;
    for (let at = start + 1; at < end; at += 1) {
      if (bytes[at] === BACKSLASH) return this.#findEscaped(bytes, start, end);
    }
    return null;
  }

  #findPlain(bytes: Uint8Array, from: number, length: number): Name | null {
    for (const name of this.#known[length] ?? NO_NAMES) {
      let i = 0;
      while (i < length && bytes[from + i] === name.bytes[i]) i += 1;
      if (i === length) return name;
    }
    return null;
  }

  #findEscaped(bytes: Uint8Array, start: number, end: number): Name | null {
    const plain = this.#plain;
    let length = 0;
    for (let at = start + 1; at < end - 1; length += 1) {
      if (length === plain.length) return null;
      const byte = bytes[at] ?? 0;
      const kind = bytes[at + 1] ?? 0;
      if (byte !== BACKSLASH) {
        plain[length] = byte;
        at += 1;
      } else if (kind === LETTER_U) {
        const unit = hexAt(bytes, at + 2);
        if (unit >= 0x80) return this.#isAscii ? null : this.#findText(bytes, start, end);
        plain[length] = unit;
        at += 6;
      } else {
        plain[length] = ESCAPED[kind] ?? 0;
        at += 2;
      }
    }
    return this.#findPlain(plain, 0, length);
  }

  #findText(bytes: Uint8Array, start: number, end: number): Name | null {
    const plain = new TextEncoder().encode(readString(bytes, start, end));
    return this.#findPlain(plain, 0, plain.length);
  }
}

const LETTER_U = 0x75;
/** What the letter behind a backslash stands for. */
const ESCAPED = new Uint8Array(256);
for (const letter of '"\\/bfnrt') {
  ESCAPED[letter.charCodeAt(0)] = (JSON.parse(`"\\${letter}"`) as string).charCodeAt(0);
}

/** The number that four hexadecimal digits are. */
function hexAt(bytes: Uint8Array, from: number): number {
  let number = 0;
  for (let i = from; i < from + 4; i += 1) {
    const byte = bytes[i] ?? 0;
    // Digits are 0x30 and on; letters, with or without 0x20, 0x41 and on.
    number = number * 16 + (byte < 0x40 ? byte & 0xf : (byte & 0xf) + 9);
  }
  return number;
}
