/** The frames of a lane: one WebSocket from worker to head, one inference request at a time. */

import type { AnswerHead, Field } from "../util/http/exchange.ts";

// A frame is one binary message: a kind (1 byte), flags (1 byte; 1: the last of this body), the
// request's number on this lane (4 bytes, little endian), and the rest by kind. The head numbers the
// requests of a lane from 1 upwards; a frame with a number that is not the running request's is
// dropped. A request and an answer have the length of their head (4 bytes), the head as text, and
// the first bytes of their body: a small one is whole in one frame. Texts are UTF-8:
//
//   request   ENGINE METHOD LENGTH|- fresh|- HOST|- PATH, a line's end, header lines
//   answer    STATUS, a line's end, header lines
//   error     CODE MESSAGE
//
// Flow: each side may have 256 KiB of body under way; every byte that the receiver has passed on is
// given back by a credit frame. Only bodies need credit. The worker ends each request with one last
// frame: an answer or a body with the flag, `error`, or `done` after a cancel. It sends nothing more
// for that request, and only then does the head give the lane another.

export const LANE_CREDIT_BYTES = 256 * 1024;

/** No frame is larger; a body is cut into as many frames as it takes. */
export const MAX_LANE_FRAME_BYTES = 128 * 1024;

/** Of a body, what one frame carries at most. */
export const LANE_PIECE_BYTES = 64 * 1024;

/**
 * Of a path and of header fields, what fits into a frame beside a piece of a body: in UTF-8
 * they have at most twice as many bytes.
 */
export const MAX_LANE_HEAD_CHARS = 32_000;

/** Below this a frame of credit is not worth its cost. */
export const LANE_CREDIT_STEP_BYTES = LANE_CREDIT_BYTES / 4;

const KIND = {
  // from the head
  request: 1,
  cancel: 2,
  // both ways
  body: 3,
  credit: 4,
  // from the worker
  answer: 5,
  error: 6,
  done: 7,
} as const;

const LAST = 1;

export interface RequestHead {
  /** The worker's engine: "1", ..., or the worker itself (WORKER_TARGET in engine-log.ts). */
  engine: string;
  method: string;
  /** With its query. */
  path: string;
  /** In place of the engine's address. */
  host: string | null;
  /** Lines, as HttpRequest has them. */
  fields: string;
  /** The body's length; null when it is not known, 0 when there is none. */
  length: number | null;
  /** A connection to the engine that was not used before. */
  fresh: boolean;
}

export interface LaneError {
  /** As the system or the runtime names it, such as ECONNREFUSED. */
  code: string;
  message: string;
}

export type LaneFrame =
  | { kind: "request"; number: number; head: RequestHead; bytes: Uint8Array; isLast: boolean }
  | { kind: "answer"; number: number; head: AnswerHead; bytes: Uint8Array; isLast: boolean }
  | { kind: "body"; number: number; bytes: Uint8Array; isLast: boolean }
  | { kind: "credit"; number: number; count: number }
  | { kind: "error"; number: number; error: LaneError }
  | { kind: "cancel"; number: number }
  | { kind: "done"; number: number };

const PREFIX_BYTES = 6;
const HEADED_BYTES = PREFIX_BYTES + 4;
const scratch = Buffer.alloc(MAX_LANE_FRAME_BYTES);

/** Good until the next frame is written: for sockets, which copy what they send. */
export function writeFrame(frame: LaneFrame): Uint8Array<ArrayBuffer> {
  const { kind, number } = frame;
  scratch[0] = KIND[kind];
  scratch[1] = "isLast" in frame && frame.isLast ? LAST : 0;
  writeCount(number, 2);
  switch (frame.kind) {
    case "request":
    case "answer": {
      const text = frame.kind === "request" ? requestText(frame.head) : answerText(frame.head);
      const end = writeText(text, HEADED_BYTES);
      writeCount(end - HEADED_BYTES, PREFIX_BYTES);
      return writeBody(frame.bytes, end);
    }
    case "body":
      return writeBody(frame.bytes, PREFIX_BYTES);
    case "credit":
      writeCount(frame.count, PREFIX_BYTES);
      return scratch.subarray(0, PREFIX_BYTES + 4);
    case "error":
      return scratch.subarray(
        0,
        writeText(`${frame.error.code} ${frame.error.message}`, PREFIX_BYTES),
      );
    case "cancel":
    case "done":
      return scratch.subarray(0, PREFIX_BYTES);
  }
}

export function encodeFrame(frame: LaneFrame): Uint8Array<ArrayBuffer> {
  return new Uint8Array(writeFrame(frame));
}

function writeCount(count: number, at: number): void {
  scratch[at] = count;
  scratch[at + 1] = count >>> 8;
  scratch[at + 2] = count >>> 16;
  scratch[at + 3] = count >>> 24;
}

/** Where it ends. */
function writeText(text: string, at: number): number {
  const end = at + scratch.write(text, at);
  // What does not fit is cut off without a word.
  if (end > scratch.length - 4) throw new RangeError("a head that is too long for a lane");
  return end;
}

function writeBody(bytes: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  if (bytes.length > 0) scratch.set(bytes, at);
  return scratch.subarray(0, at + bytes.length);
}

/** Null for anything that is no frame; a body's bytes are a view of the message. */
export function decodeFrame(message: Uint8Array): LaneFrame | null {
  if (message.length < PREFIX_BYTES || message.length > MAX_LANE_FRAME_BYTES) return null;
  const number = readCount(message, 2);
  const flags = message[1] ?? 0;
  const isLast = flags === LAST;
  switch (message[0]) {
    case KIND.body:
      return flags > LAST
        ? null
        : { kind: "body", number, bytes: rest(message, PREFIX_BYTES), isLast };
    case KIND.credit:
      return flags === 0 && message.length === PREFIX_BYTES + 4
        ? { kind: "credit", number, count: readCount(message, PREFIX_BYTES) }
        : null;
    case KIND.request:
    case KIND.answer:
      return flags > LAST ? null : readHeaded(message, number, isLast);
    case KIND.error: {
      const [, code, text] = (flags === 0 && ERROR.exec(read(message, PREFIX_BYTES))) || [];
      if (code === undefined || text === undefined) return null;
      return { kind: "error", number, error: { code, message: text } };
    }
    case KIND.cancel:
    case KIND.done:
      if (flags !== 0 || message.length !== PREFIX_BYTES) return null;
      return { kind: message[0] === KIND.cancel ? "cancel" : "done", number };
    default:
      return null;
  }
}

function readHeaded(message: Uint8Array, number: number, isLast: boolean): LaneFrame | null {
  if (message.length < HEADED_BYTES) return null;
  const end = HEADED_BYTES + readCount(message, PREFIX_BYTES);
  if (end > message.length) return null;
  const text = read(message, HEADED_BYTES, end);
  const bytes = rest(message, end);
  if (message[0] === KIND.request) {
    const head = readRequestHead(text);
    return head && { kind: "request", number, head, bytes, isLast };
  }
  const head = readAnswerHead(text);
  return head && { kind: "answer", number, head, bytes, isLast };
}

function rest(message: Uint8Array, from: number): Uint8Array {
  return from === message.length ? NOTHING : message.subarray(from);
}

const NOTHING = new Uint8Array();

function readCount(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  return (low | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0;
}

const utf8Slice: (this: Uint8Array, from: number, to: number) => string =
  Buffer.prototype.utf8Slice;

/** What is no UTF-8 becomes a character that no header has. */
function read(message: Uint8Array, from: number, to = message.length): string {
  return utf8Slice.call(message, from, to);
}

const ERROR = /^([!-~]+) ([^]*)$/;

/** A path without a space or a line's end, with which it could go on as another line. */
const REQUEST = /^([!-~]+) ([A-Z]+) (\d{1,15}|-) (fresh|-) ([!-~]+) (\/[!-~]*)\r\n/;
const ANSWER = /^([2-5]\d\d)\r\n/;
/** Whole lines, and none that a connection to an engine has of its own (RFC 9110, 5.5, 7.6.1). */
const REQUEST_FIELDS =
  /^(?:(?!(?:host|content-length|transfer-encoding|connection|proxy-connection|keep-alive|te|trailer|upgrade|expect):)[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\xff]*\r\n)*$/i;
const ANSWER_FIELDS = /^(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\xff]*\r\n)*$/;
const MOST_FIELDS = 256;

function requestText({ engine, method, path, host, fields, length, fresh }: RequestHead): string {
  return `${engine} ${method} ${length ?? "-"} ${fresh ? "fresh" : "-"} ${host ?? "-"} ${path}\r\n${fields}`;
}

function answerText({ status, fields }: AnswerHead): string {
  let text = `${status}\r\n`;
  for (const [name, value] of fields) text += `${name}: ${value}\r\n`;
  return text;
}

function readRequestHead(text: string): RequestHead | null {
  const found = REQUEST.exec(text);
  if (found === null) return null;
  const [line, engine = "", method = "", length = "", fresh, host = "", path = ""] = found;
  const fields = text.slice(line.length);
  if (!REQUEST_FIELDS.test(fields)) return null;
  return {
    engine,
    method,
    path,
    host: host === "-" ? null : host,
    fields,
    length: length === "-" ? null : Number(length),
    fresh: fresh === "fresh",
  };
}

function readAnswerHead(text: string): AnswerHead | null {
  const found = ANSWER.exec(text);
  if (found === null) return null;
  const [line, status] = found;
  if (!ANSWER_FIELDS.test(text.slice(line.length))) return null;
  const fields: Field[] = [];
  for (let at = line.length; at < text.length;) {
    const colon = text.indexOf(":", at);
    const end = text.indexOf("\r\n", colon);
    fields.push([text.slice(at, colon), text.slice(colon + 2, end)]);
    at = end + 2;
  }
  return fields.length > MOST_FIELDS ? null : { status: Number(status), fields };
}
