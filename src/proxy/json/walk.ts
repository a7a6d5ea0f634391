/** Goes through JSON text (RFC 8259) token by token; can stop anywhere and go on. */

import {
  JsonScanError,
  type NumberPart,
  partAt,
  QUOTE,
  skipDigits,
  skipFirstDigit,
  skipLiteral,
  skipPartStart,
  skipSpace,
  skipString,
  type Text,
  textOf,
} from "./tokens.ts";

export const OPEN_OBJECT = 0x7b;
export const OPEN_ARRAY = 0x5b;
export const COLON = 0x3a;
const CLOSE_OBJECT = 0x7d;
const CLOSE_ARRAY = 0x5d;
const COMMA = 0x2c;

/** Deeper nesting has no use, and engines' own parsers fail on it. */
export const MAX_DEPTH = 512;
/** Strings from this on are told of. */
export const LONG_STRING_BYTES = 4096;

/** What comes next. Up to `VALUE_END` no white space is passed over before it. */
const IN_NAME = 0;
const IN_STRING = 1;
const IN_NUMBER = 2;
const VALUE_END = 3;
const OBJECT = 4;
const FIRST_NAME = 5;
const NAME = 6;
const NAME_END = 7;
const FIRST_ELEMENT = 8;
const VALUE = 9;
const NEXT = 10;
const TEXT_END = 11;
const DONE = 12;

/**
 * A walk over a text that is one object, or over one value somewhere in a text. What it comes by it
 * tells to the methods that a class over it puts in place of those here.
 */
export class JsonWalk {
  protected readonly bytes: Uint8Array;
  /** How far it has come. */
  at = 0;
  readonly #text: Text;
  readonly #isValue: boolean;
  #next: number;
  /** Which containers are open: true for objects. */
  readonly #containers: boolean[] = [];
  #numberPart: NumberPart = 0;
  #stringStart = 0;

  /** With `valueAt` over the value there alone, whatever follows. */
  constructor(bytes: Uint8Array, { valueAt }: { valueAt?: number } = {}) {
    this.bytes = bytes;
    this.#text = textOf(bytes);
    this.#isValue = valueAt !== undefined;
    this.#next = this.#isValue ? VALUE : OBJECT;
    this.at = valueAt ?? 0;
  }

  /**
   * Looks at about `budget` bytes more; true: that was the end. Throws JsonScanError for anything
   * that is not exactly one object, or no value.
   */
  run(budget = Infinity): boolean {
    const { bytes } = this;
    const text = this.#text;
    const stop = Math.min(this.at + budget, bytes.length);
    const isCut = stop < bytes.length;
    let at = this.at;
    let next = this.#next;
    while (next !== DONE && !(isCut && at >= stop)) {
      if (next > VALUE_END) {
        at = skipSpace(bytes, at, stop);
        if (isCut && at >= stop) break;
        this.at = at;
        next = this.#token(bytes[at], next);
        at = this.at;
      } else if (next === VALUE_END) {
        next = this.#valueEnd(at);
      } else if (next === IN_NUMBER) {
        at = skipDigits(bytes, at, stop);
        if (isCut && at >= stop) break;
        this.#numberPart = partAt(bytes, at, this.#numberPart);
        if (this.#numberPart === 0) next = VALUE_END;
        else at = skipPartStart(bytes, at, this.#numberPart);
      } else {
        const end = skipString(text, at, stop);
        at = end < 0 ? ~end : end;
        if (end >= 0) next = next === IN_NAME ? this.#nameEnd(at) : this.#stringEnd(at);
      }
    }
    this.at = at;
    this.#next = next;
    return next === DONE;
  }

  /** The object begins at `at`. */
  protected onOpen(_at: number): void {}
  /** A member of the object has its name at `bytes[start, end)`. */
  protected onName(_start: number, _end: number): void {}
  /** Its value begins at `at`. */
  protected onValue(_at: number): void {}
  /** An element or a member of its value ends at `at`. */
  protected onElementEnd(_at: number): void {}
  /** Its value ends at `at`. */
  protected onValueEnd(_at: number): void {}
  /** A comma between two members of the object is at `at`. */
  protected onComma(_at: number): void {}
  /** A long string, at whatever depth, stands at `bytes[start, end)`. */
  protected onLongString(_start: number, _end: number): void {}

  /** Takes the token at hand; returns what comes behind it. */
  #token(byte: number | undefined, next: number): number {
    const { at } = this;
    switch (next) {
      case NEXT:
        return this.#commaOrClose(byte);
      case FIRST_NAME:
        return byte === CLOSE_OBJECT ? this.#close() : this.#beginName(byte);
      case NAME:
        return this.#beginName(byte);
      case NAME_END:
        if (byte !== COLON) throw new JsonScanError("expected ':'", at);
        this.at = at + 1;
        return VALUE;
      case FIRST_ELEMENT:
        return byte === CLOSE_ARRAY ? this.#close() : this.#beginValue(byte);
      case VALUE:
        return this.#beginValue(byte);
      case OBJECT:
        if (byte !== OPEN_OBJECT) throw new JsonScanError("expected a JSON object", at);
        this.onOpen(at);
        return this.#beginContainer(true);
      default:
        if (byte !== undefined) throw new JsonScanError("unexpected text after the object", at);
        return DONE;
    }
  }

  #beginName(byte: number | undefined): number {
    if (byte !== QUOTE) throw new JsonScanError("expected a string", this.at);
    this.#stringStart = this.at;
    this.at += 1;
    return IN_NAME;
  }

  #nameEnd(at: number): number {
    if (this.#containers.length === 1) this.onName(this.#stringStart, at);
    return NAME_END;
  }

  #beginValue(byte: number | undefined): number {
    const { at } = this;
    if (this.#containers.length === 1) this.onValue(at);
    if (byte === QUOTE) {
      this.#stringStart = at;
      this.at = at + 1;
      return IN_STRING;
    }
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      return this.#beginContainer(byte === OPEN_OBJECT);
    }
    const end = skipLiteral(this.bytes, at);
    if (end !== -1) {
      this.at = end;
      return VALUE_END;
    }
    this.at = skipFirstDigit(this.bytes, at);
    this.#numberPart = 0;
    return IN_NUMBER;
  }

  #beginContainer(isObject: boolean): number {
    if (this.#containers.length === MAX_DEPTH) {
      throw new JsonScanError(`nested deeper than ${MAX_DEPTH} levels`, this.at);
    }
    this.#containers.push(isObject);
    this.at += 1;
    return isObject ? FIRST_NAME : FIRST_ELEMENT;
  }

  #stringEnd(at: number): number {
    if (at - this.#stringStart >= LONG_STRING_BYTES) this.onLongString(this.#stringStart, at);
    return VALUE_END;
  }

  #valueEnd(at: number): number {
    const depth = this.#containers.length;
    if (depth === 0) return this.#isValue ? DONE : TEXT_END;
    if (depth === 1) this.onValueEnd(at);
    else if (depth === 2) this.onElementEnd(at);
    return NEXT;
  }

  #commaOrClose(byte: number | undefined): number {
    const depth = this.#containers.length;
    const isObject = this.#containers[depth - 1] === true;
    if (byte === COMMA) {
      if (depth === 1) this.onComma(this.at);
      this.at += 1;
      return isObject ? NAME : VALUE;
    }
    if (byte === (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) return this.#close();
    throw new JsonScanError(`expected ',' or '${isObject ? "}" : "]"}'`, this.at);
  }

  #close(): number {
    this.#containers.pop();
    this.at += 1;
    return VALUE_END;
  }
}

/** The end of the JSON value that starts at `from`. Throws JsonScanError. */
export function skipValue(bytes: Uint8Array, from: number): number {
  const walk = new JsonWalk(bytes, { valueAt: from });
  walk.run();
  return walk.at;
}
