/** Finds top-level members of a JSON object in its bytes, without building the object. */

/** Where the value of a member lies: `bytes.subarray(start, end)`. */
export interface Span {
  start: number;
  end: number;
}

/** A member of the object: its key and its value. */
export interface Member extends Span {
  key: string;
  /** Where the key begins, with its quote. */
  keyStart: number;
  /** Where elements of an array end, if that was asked for; short ones are told with the next. */
  elementEnds?: readonly number[];
}

/** What is wrong with the text, and at which byte. */
export class JsonScanError extends Error {
  readonly at: number;

  constructor(message: string, at: number) {
    super(`${message} at byte ${at}`);
    this.name = "JsonScanError";
    this.at = at;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

const NONE: ReadonlySet<string> = new Set();
/** Ends of elements closer than this are told with the next one: there may be millions. */
const MIN_ELEMENT_BYTES = 64;

// A name or a text may begin with U+FEFF, which is a part of it.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Bytes, and the same memory in words where it is aligned: strings are scanned by words. */
interface Text {
  bytes: Uint8Array;
  words: Int32Array | null;
}

function textOf(bytes: Uint8Array): Text {
  const aligned = bytes.byteOffset % 4 === 0;
  const words = aligned
    ? new Int32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4))
    : null;
  return { bytes, words };
}

/**
 * Reads one JSON object (RFC 8259) whole and returns its wanted members in their order, duplicates
 * included: of those the last one counts, as with `JSON.parse`. Nesting costs one byte a level.
 * Of the members in `walked` it tells the ends of elements too. Throws JsonScanError for anything
 * that is not exactly one object.
 */
export function scanObject(
  bytes: Uint8Array,
  wanted: ReadonlySet<string>,
  walked: ReadonlySet<string> = NONE,
): Member[] {
  const text = textOf(bytes);
  const found: Member[] = [];
  let at = skipSpace(bytes, 0);
  if (bytes[at] !== OPEN_OBJECT) throw new JsonScanError("expected a JSON object", at);
  at = skipSpace(bytes, at + 1);
  if (bytes[at] === CLOSE_OBJECT) at += 1;
  else {
    for (;;) {
      const keyStart = at;
      const keyEnd = skipString(text, at);
      const key = readString(bytes, { start: keyStart, end: keyEnd });
      at = skipSpace(bytes, keyEnd);
      if (bytes[at] !== COLON) throw new JsonScanError("expected ':'", at);
      const start = skipSpace(bytes, at + 1);
      const ends = walked.has(key) ? [] : null;
      const end = skipText(text, start, ends);
      if (wanted.has(key)) {
        const member: Member = { key, keyStart, start, end };
        if (ends !== null) member.elementEnds = ends;
        found.push(member);
      }
      at = skipSpace(bytes, end);
      if (bytes[at] === CLOSE_OBJECT) break;
      if (bytes[at] !== COMMA) throw new JsonScanError("expected ',' or '}'", at);
      at = skipSpace(bytes, at + 1);
    }
    at += 1;
  }
  at = skipSpace(bytes, at);
  if (at !== bytes.length) throw new JsonScanError("unexpected text after the object", at);
  return found;
}

/** The member of that name that counts. */
export function lastMember(members: readonly Member[], key: string): Member | undefined {
  for (let i = members.length - 1; i >= 0; i -= 1) {
    const member = members[i];
    if (member?.key === key) return member;
  }
  return undefined;
}

/** The value of a span that holds a string, or null when it holds something else. */
export function stringAt(bytes: Uint8Array, span: Span): string | null {
  return bytes[span.start] === QUOTE ? readString(bytes, span) : null;
}

function readString(bytes: Uint8Array, span: Span): string {
  const raw = bytes.subarray(span.start + 1, span.end - 1);
  if (!raw.includes(BACKSLASH)) return decoder.decode(raw);
  return String(JSON.parse(decoder.decode(bytes.subarray(span.start, span.end))));
}

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  for (;;) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at += 1;
  }
}

/** The end of the JSON value that starts at `from`. Throws JsonScanError. */
export function skipValue(bytes: Uint8Array, from: number): number {
  return skipText(textOf(bytes), from);
}

/** A loop, so that depth cannot exhaust the stack. Of an array it notes where elements end. */
function skipText(text: Text, from: number, ends: number[] | null = null): number {
  const { bytes } = text;
  let at = from;
  let lastEnd = from;
  // The kinds of the containers that are open: true for objects.
  const open: boolean[] = [];
  for (;;) {
    at = skipSpace(bytes, at);
    const byte = bytes[at];
    if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
      const isObject = byte === OPEN_OBJECT;
      at = skipSpace(bytes, at + 1);
      if (bytes[at] !== (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) {
        open.push(isObject);
        if (isObject) at = skipKey(text, at);
        continue;
      }
      at += 1;
    } else if (byte === QUOTE) {
      at = skipString(text, at);
    } else {
      at = skipScalar(bytes, at);
    }
    // A value has ended: close what ends with it, then go on to the next one.
    for (;;) {
      if (open.length === 0) return at;
      const isObject = open[open.length - 1] === true;
      if (ends !== null && open.length === 1 && !isObject && at - lastEnd >= MIN_ELEMENT_BYTES) {
        ends.push(at);
        lastEnd = at;
      }
      at = skipSpace(bytes, at);
      if (bytes[at] === COMMA) {
        at = skipSpace(bytes, at + 1);
        if (isObject) at = skipKey(text, at);
        break;
      }
      if (bytes[at] !== (isObject ? CLOSE_OBJECT : CLOSE_ARRAY)) {
        throw new JsonScanError(`expected ',' or '${isObject ? "}" : "]"}'`, at);
      }
      open.pop();
      at += 1;
    }
  }
}

function skipKey(text: Text, from: number): number {
  const { bytes } = text;
  const at = skipSpace(bytes, skipString(text, from));
  if (bytes[at] !== COLON) throw new JsonScanError("expected ':'", at);
  return at + 1;
}

/** The position behind the closing quote of the string that starts at `from`. */
function skipString(text: Text, from: number): number {
  const { bytes } = text;
  if (bytes[from] !== QUOTE) throw new JsonScanError("expected a string", from);
  let at = from + 1;
  for (;;) {
    at = skipPlain(text, at);
    const byte = bytes[at];
    if (byte === QUOTE) return at + 1;
    if (byte !== BACKSLASH) {
      throw new JsonScanError(byte === undefined ? "unfinished string" : "control character", at);
    }
    at = skipEscape(bytes, at);
  }
}

/** The first byte from `from` on that is a quote, a backslash, a control character, or the end. */
function skipPlain({ bytes, words }: Text, from: number): number {
  let at = from;
  while (words === null || at % 4 !== 0) {
    if (!isPlain(bytes[at])) return at;
    at += 1;
  }
  // Four bytes at a time: `(x - 1s) & ~x & 0x80s` is not 0 where a byte of x is 0, here x is the
  // word with the byte that is looked for turned to 0 by XOR; a control character is below 0x20.
  let index = at / 4;
  const count = words.length;
  while (index < count) {
    const word = words[index] as number;
    const quote = word ^ 0x22222222;
    const slash = word ^ 0x5c5c5c5c;
    // `| 0` keeps the sums whole numbers of 32 bits, which the compiler then computes as such.
    const special =
      (((quote - 0x01010101) | 0) & ~quote) |
      (((slash - 0x01010101) | 0) & ~slash) |
      (((word - 0x20202020) | 0) & ~word);
    if ((special & HIGH_BITS) !== 0) break;
    index += 1;
  }
  at = index * 4;
  while (isPlain(bytes[at])) at += 1;
  return at;
}

/** 0x80808080 as a number of 32 bits with its sign. */
const HIGH_BITS = -0x7f7f7f80;

function isPlain(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x20 && byte !== QUOTE && byte !== BACKSLASH;
}

function skipEscape(bytes: Uint8Array, at: number): number {
  const kind = bytes[at + 1];
  if (kind === 0x75) {
    for (let i = at + 2; i < at + 6; i += 1) {
      if (!isHex(bytes[i])) throw new JsonScanError("bad \\u escape", at);
    }
    return at + 6;
  }
  // " \ / b f n r t
  if (kind === undefined || ESCAPES[kind] !== 1) throw new JsonScanError("bad escape", at);
  return at + 2;
}

const ESCAPES = new Uint8Array(256);
for (const kind of '"\\/bfnrt') ESCAPES[kind.charCodeAt(0)] = 1;

function isHex(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  const letter = byte | 0x20;
  return (byte >= 0x30 && byte <= 0x39) || (letter >= 0x61 && letter <= 0x66);
}

const LITERALS = ["true", "false", "null"].map((text) => new TextEncoder().encode(text));

/** The end of a number or of true, false, null. */
function skipScalar(bytes: Uint8Array, from: number): number {
  for (const literal of LITERALS) {
    if (literal.every((byte, i) => bytes[from + i] === byte)) return from + literal.length;
  }
  let at = bytes[from] === 0x2d ? from + 1 : from;
  const whole = skipDigits(bytes, at);
  if (whole === at || (bytes[at] === 0x30 && whole > at + 1)) {
    throw new JsonScanError(from >= bytes.length ? "unfinished object" : "expected a value", from);
  }
  at = whole;
  if (bytes[at] === 0x2e) {
    const fraction = skipDigits(bytes, at + 1);
    if (fraction === at + 1) throw new JsonScanError("bad number", from);
    at = fraction;
  }
  if (((bytes[at] ?? 0) | 0x20) === 0x65) {
    const sign = bytes[at + 1];
    const first = sign === 0x2b || sign === 0x2d ? at + 2 : at + 1;
    const exponent = skipDigits(bytes, first);
    if (exponent === first) throw new JsonScanError("bad number", from);
    at = exponent;
  }
  return at;
}

function skipDigits(bytes: Uint8Array, from: number): number {
  let at = from;
  for (;;) {
    const byte = bytes[at];
    if (byte === undefined || byte < 0x30 || byte > 0x39) return at;
    at += 1;
  }
}
