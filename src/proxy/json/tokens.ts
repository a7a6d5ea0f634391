/** Where JSON's strings, numbers and words end, in bytes that may be looked at in slices. */

/** What is wrong with the text, and at which byte. */
export class JsonScanError extends Error {
  readonly at: number;

  constructor(message: string, at: number) {
    super(`${message} at byte ${at}`);
    this.name = "JsonScanError";
    this.at = at;
  }
}

export const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const PLUS = 0x2b;
const POINT = 0x2e;
const ZERO = 0x30;

/** Bytes, and the same memory in words where it is aligned: strings are scanned by words. */
export interface Text {
  bytes: Uint8Array;
  words: Int32Array | null;
}

export function textOf(bytes: Uint8Array): Text {
  const aligned = bytes.byteOffset % 4 === 0;
  const words = aligned
    ? new Int32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4))
    : null;
  return { bytes, words };
}

/** The first position from `from` on that holds no white space, or `stop`. */
export function skipSpace(bytes: Uint8Array, from: number, stop: number): number {
  let at = from;
  while (at < stop) {
    const byte = bytes[at];
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
    at += 1;
  }
  return at;
}

/**
 * The position behind the closing quote of a string whose inside begins or goes on at `from`; where
 * it does not end before `stop`, the complement (`~`) of where to go on.
 */
export function skipString(text: Text, from: number, stop: number): number {
  const { bytes } = text;
  let at = from;
  for (;;) {
    at = skipPlain(text, at, stop);
    const byte = bytes[at];
    if (byte === QUOTE) return at + 1;
    if (byte === BACKSLASH) {
      at = skipEscape(bytes, at);
      if (at < stop) continue;
    }
    if (at >= stop && stop < bytes.length) return ~at;
    if (byte !== BACKSLASH) {
      throw new JsonScanError(byte === undefined ? "unfinished string" : "control character", at);
    }
  }
}

/** The first byte from `from` on that is a quote, a backslash or a control character, or `stop`. */
function skipPlain({ bytes, words }: Text, from: number, stop: number): number {
  let at = from;
  const count = words === null ? 0 : stop >> 2;
  let index = at >> 2;
  if (words !== null && index < count) {
    // Of the first word, bytes before `from` are taken for plain ones.
    const before = (1 << ((at & 3) << 3)) - 1;
    let word = ((words[index] as number) & ~before) | (PLAIN & before);
    // Four bytes at a time: `(x - 1s) & ~x & 0x80s` is not 0 where a byte of x is 0, here x is the
    // word with the byte that is looked for turned to 0 by XOR; a control character is below 0x20.
    for (;;) {
      const quote = word ^ 0x22222222;
      const slash = word ^ 0x5c5c5c5c;
      // `| 0` keeps the sums whole numbers of 32 bits, which the compiler then computes as such.
      const special =
        ((((quote - 0x01010101) | 0) & ~quote) |
          (((slash - 0x01010101) | 0) & ~slash) |
          (((word - 0x20202020) | 0) & ~word)) &
        HIGH_BITS;
      // The lowest bit is the first such byte's; above it a borrow may have set others.
      if (special !== 0) return (index << 2) + ((31 - Math.clz32(special & -special)) >> 3);
      index += 1;
      if (index >= count) break;
      word = words[index] as number;
    }
    at = index << 2;
  }
  while (at < stop && isPlain(bytes[at])) at += 1;
  return at;
}

/** Four letters. */
const PLAIN = 0x61616161;
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

/** The end of `true`, `false` or `null`, or -1 where another value begins. */
export function skipLiteral(bytes: Uint8Array, from: number): number {
  switch (bytes[from]) {
    case 0x74:
      return skipWord(bytes, from, TRUE);
    case 0x66:
      return skipWord(bytes, from, FALSE);
    case 0x6e:
      return skipWord(bytes, from, NULL);
    default:
      return -1;
  }
}

const [TRUE, FALSE, NULL] = ["true", "false", "null"].map((text) =>
  new TextEncoder().encode(text),
) as [Uint8Array, Uint8Array, Uint8Array];

function skipWord(bytes: Uint8Array, from: number, word: Uint8Array): number {
  for (let i = 1; i < word.length; i += 1) {
    if (bytes[from + i] !== word[i]) throw new JsonScanError("expected a value", from);
  }
  return from + word.length;
}

/** The part of a number that its digits belong to; each may follow any part before it. */
export type NumberPart = 0 | 1 | 2;
const FRACTION = 1;
const EXPONENT = 2;

/** The position behind the first digit of the number that begins at `from`. */
export function skipFirstDigit(bytes: Uint8Array, from: number): number {
  const at = bytes[from] === MINUS ? from + 1 : from;
  const isNumber = isDigit(bytes[at]) && !(bytes[at] === ZERO && isDigit(bytes[at + 1]));
  if (isNumber) return at + 1;
  throw new JsonScanError(from >= bytes.length ? "unfinished object" : "expected a value", from);
}

export function skipDigits(bytes: Uint8Array, from: number, stop: number): number {
  let at = from;
  while (at < stop && isDigit(bytes[at])) at += 1;
  return at;
}

/** The part of a number that begins at `at`, behind digits of `part`; 0: the number has ended. */
export function partAt(bytes: Uint8Array, at: number, part: NumberPart): NumberPart {
  const byte = bytes[at];
  if (byte === POINT && part < FRACTION) return FRACTION;
  return byte !== undefined && (byte | 0x20) === 0x65 && part < EXPONENT ? EXPONENT : 0;
}

/** The position behind the first digit of the part that begins at `from`. */
export function skipPartStart(bytes: Uint8Array, from: number, part: NumberPart): number {
  const sign = bytes[from + 1];
  const isSigned = part === EXPONENT && (sign === PLUS || sign === MINUS);
  const first = isSigned ? from + 2 : from + 1;
  if (!isDigit(bytes[first])) throw new JsonScanError("bad number", from);
  return first + 1;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

// A name or a text may begin with U+FEFF, which is a part of it.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The value of the string that stands at `bytes[start, end)`, with its quotes. */
export function readString(bytes: Uint8Array, start: number, end: number): string {
  const raw = bytes.subarray(start + 1, end - 1);
  if (!raw.includes(BACKSLASH)) return decoder.decode(raw);
  return String(JSON.parse(decoder.decode(bytes.subarray(start, end))));
}
