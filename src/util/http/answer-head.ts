/** Reads the head of an HTTP/1.1 answer: its status, its fields, and how its body ends. */

import type { AnswerHead, Field } from "./exchange.ts";

export interface ReadHead extends AnswerHead {
  body: "none" | "length" | "chunks" | "close";
  /** Of a body that goes by its length. */
  length: number;
  /** The connection may carry another request. */
  keepAlive: boolean;
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
const COLON = 0x3a;
const ZERO = 0x30;

/** What may stand in a name; 2 for what has a lower case. */
const NAME = new Uint8Array(256);
/** What may stand in a value. */
const VALUE = new Uint8Array(256);
for (let code = 0; code < 256; code += 1) {
  const letter = String.fromCharCode(code);
  if (/[!#$%&'*+.^_`|~0-9a-z-]/.test(letter)) NAME[code] = 1;
  if (/[A-Z]/.test(letter)) NAME[code] = 2;
  if (/[\t\x20-\x7e\x80-\xff]/.test(letter)) VALUE[code] = 1;
}

/**
 * Where the empty line after a head ends; -1: not between `from` and `end`. Lines may end without a
 * carriage return.
 */
export function endOfHead(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at + 1 < end; at += 1) {
    if (bytes[at] !== NEWLINE) continue;
    const next = bytes[at + 1];
    if (next === NEWLINE) return at + 2;
    if (next === RETURN && at + 2 < end && bytes[at + 2] === NEWLINE) return at + 3;
  }
  return -1;
}

/** The head that stands there whole (RFC 9112, sections 4 to 6). Throws EPROTO where it is none. */
export function readHead(bytes: Buffer, from: number, end: number): ReadHead {
  const text = bytes.toString("latin1", from, end);
  const { status, minor, next } = readStatus(text);
  const fields: Field[] = [];
  let lengths: string | null = null;
  let codings: string | null = null;
  let connection: string | null = null;
  let at = next;
  for (;;) {
    const first = text.charCodeAt(at);
    if (first === NEWLINE) break;
    if (first === RETURN && text.charCodeAt(at + 1) === NEWLINE) break;
    const nameFrom = at;
    let kinds = 0;
    for (let kind = 1; kind !== 0;) {
      kind = NAME[text.charCodeAt(at)] ?? 0;
      kinds |= kind;
      at += 1;
    }
    at -= 1;
    if (at === nameFrom || text.charCodeAt(at) !== COLON) throw noField();
    const spelled = text.substring(nameFrom, at);
    const name = (kinds & 2) === 0 ? spelled : spelled.toLowerCase();
    at += 1;
    let code = text.charCodeAt(at);
    while (code === SPACE || code === TAB) code = text.charCodeAt((at += 1));
    const valueFrom = at;
    let valueEnd = at;
    while (VALUE[code] === 1) {
      at += 1;
      if (code !== SPACE && code !== TAB) valueEnd = at;
      code = text.charCodeAt(at);
    }
    if (code === RETURN) code = text.charCodeAt((at += 1));
    if (code !== NEWLINE) throw noField();
    at += 1;
    const value = text.substring(valueFrom, valueEnd);
    fields.push([name, value]);
    if (name.length === 14 && name === "content-length") lengths = joined(lengths, value);
    else if (name.length === 17 && name === "transfer-encoding") codings = joined(codings, value);
    else if (name.length === 10 && name === "connection") connection = joined(connection, value);
  }
  const head: ReadHead = {
    status,
    fields,
    body: "close",
    length: 0,
    keepAlive: minor === 1 ? !holds(connection, "close") : holds(connection, "keep-alive"),
  };
  if (codings !== null) {
    if (codings.toLowerCase() !== "chunked") {
      throw malformed("a transfer coding that was not offered");
    }
    head.body = "chunks";
    // Whoever frames a body twice, or in a version that has no chunks, is not asked again there.
    if (lengths !== null || minor === 0) head.keepAlive = false;
  } else if (lengths !== null) {
    head.body = "length";
    head.length = readLength(lengths);
  }
  return head;
}

/** The status, the minor version, and where the next line begins. */
function readStatus(text: string): { status: number; minor: number; next: number } {
  const minor = text.charCodeAt(7) - ZERO;
  const [hundreds, tens, ones] = [digitAt(text, 9), digitAt(text, 10), digitAt(text, 11)];
  const after = text.charCodeAt(12);
  if (
    !text.startsWith("HTTP/1.") ||
    (minor !== 0 && minor !== 1) ||
    text.charCodeAt(8) !== SPACE ||
    hundreds < 1 ||
    hundreds > 5 ||
    tens < 0 ||
    ones < 0 ||
    (after !== SPACE && after !== NEWLINE && !text.startsWith("\r\n", 12))
  ) {
    throw malformed("it does not begin with a status");
  }
  return { status: hundreds * 100 + tens * 10 + ones, minor, next: text.indexOf("\n", 12) + 1 };
}

/** -1: there is none. */
function digitAt(text: string, at: number): number {
  const digit = text.charCodeAt(at) - ZERO;
  return digit >= 0 && digit <= 9 ? digit : -1;
}

function joined(before: string | null, value: string): string {
  return before === null ? value : `${before},${value}`;
}

/** Whether a field that is a list has that member. */
function holds(list: string | null, member: string): boolean {
  return list !== null && members(list.toLowerCase()).includes(member);
}

function members(list: string): string[] {
  return list.split(",").map((member) => member.trim());
}

/** Several lengths are one where they are the same. */
function readLength(text: string): number {
  const [one = "", ...others] = text.includes(",") ? members(text) : [text];
  let length = 0;
  let isNumber = one.length > 0 && one.length <= 15 && others.every((other) => other === one);
  for (let at = 0; at < one.length && isNumber; at += 1) {
    const digit = digitAt(one, at);
    length = length * 10 + digit;
    isNumber = digit !== -1;
  }
  if (!isNumber) throw malformed("its content-length is not a number");
  return length;
}

function noField(): Error {
  return malformed("a line in its head is not a header");
}

export function malformed(what: string): Error {
  return Object.assign(new Error(`the answer is not HTTP/1.1: ${what}`), { code: "EPROTO" });
}
