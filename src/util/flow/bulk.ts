/** What takes long with many bytes, as work that can be done in slices. */

import { isUtf8 } from "node:buffer";
import type { Work } from "./slices.ts";

/** Whether bytes are UTF-8. */
export class Utf8Check implements Work {
  isUtf8 = true;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  run(budget: number): boolean {
    const bytes = this.#bytes;
    let end = Math.min(this.#at + Math.max(budget, MAX_CHAR_BYTES), bytes.length);
    // A slice ends where a character begins; without one so near the text is broken anyway.
    const least = end - MAX_CHAR_BYTES + 1;
    while (end > least && isInside(bytes[end])) end -= 1;
    this.isUtf8 = isUtf8(bytes.subarray(this.#at, end));
    this.#at = end;
    return !this.isUtf8 || end === bytes.length;
  }
}

const MAX_CHAR_BYTES = 4;

function isInside(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

/** Of many bytes pieces are hashed, each seeded with the hash before it. */
const HASHED_BYTES = 64 * 1024;

/** Names bytes by their length and a hash. */
export class Hash implements Work {
  readonly #bytes: Uint8Array;
  #at = 0;
  #hash = 0n;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get name(): string {
    // By 16: a power of 2 needs no division of the whole number for each digit.
    return `${this.#bytes.length}-${this.#hash.toString(16)}`;
  }

  run(budget: number): boolean {
    const { length } = this.#bytes;
    const stop = Math.min(this.#at + budget, length);
    do {
      const piece = this.#bytes.subarray(this.#at, this.#at + HASHED_BYTES);
      this.#hash = Bun.hash.wyhash(piece, this.#hash);
      this.#at += piece.length;
    } while (this.#at < stop);
    return this.#at === length;
  }
}

export function hashOf(bytes: Uint8Array): string {
  const hash = new Hash(bytes);
  hash.run(Infinity);
  return hash.name;
}

/** Puts parts together, in as much memory as they take or in more. */
export class Copy implements Work {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #parts: readonly Uint8Array[];
  /** The part at hand, how much of it is copied, and of all. */
  #part = 0;
  #inPart = 0;
  #at = 0;

  constructor(parts: readonly Uint8Array[], capacity = 0) {
    this.#parts = parts;
    let length = 0;
    for (const part of parts) length += part.length;
    // Memory that is not touched before it is written: to clear it would take long.
    this.bytes = Buffer.allocUnsafeSlow(Math.max(length, capacity));
  }

  run(budget: number): boolean {
    let left = budget;
    for (;;) {
      const part = this.#parts[this.#part];
      if (part === undefined) return true;
      if (left <= 0) return false;
      const piece = part.subarray(this.#inPart, this.#inPart + left);
      this.bytes.set(piece, this.#at);
      this.#at += piece.length;
      this.#inPart += piece.length;
      left -= piece.length;
      if (this.#inPart < part.length) continue;
      this.#part += 1;
      this.#inPart = 0;
    }
  }
}
