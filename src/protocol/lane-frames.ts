/** The frames of a lane: one WebSocket from worker to head, one inference request at a time. */

import { fieldsIn } from "../util/json.ts";

// A frame is one binary message: a kind (1 byte), the request's number on this lane (4 bytes, little
// endian), and the rest by kind. The head numbers the requests of a lane from 1 upwards; a frame
// with a number that is not the running request's is dropped. Heads are JSON in UTF-8.
//
// Flow: each side may have 256 KiB of body under way; every byte that the receiver has passed on is
// given back by a credit frame. Only bodies need credit. After its last frame for a request, answered
// or cancelled, the worker sends `done`: only then does the head give the lane another request.

export const LANE_CREDIT_BYTES = 256 * 1024;

/** No frame is larger; a body is cut into as many frames as it takes. */
export const MAX_LANE_FRAME_BYTES = 128 * 1024;

const KIND = {
  // from the head
  request: 1,
  cancel: 2,
  // both ways
  body: 3,
  end: 4,
  credit: 5,
  // from the worker
  response: 6,
  error: 7,
  done: 8,
} as const;

export interface RequestHead {
  /** The worker's engine: "1", ..., or the worker itself (WORKER_TARGET in engine-log.ts). */
  engine: string;
  method: string;
  /** With its query. */
  path: string;
  headers: [string, string][];
  /** The body's length; null when it is not known, 0 when there is none. */
  length: number | null;
  /** A connection to the engine that was not used before. */
  fresh: boolean;
}

export interface ResponseHead {
  status: number;
  headers: [string, string][];
}

export interface LaneError {
  /** As the system or the runtime names it, such as ECONNREFUSED. */
  code: string;
  message: string;
}

export type LaneFrame =
  | { kind: "request"; number: number; head: RequestHead }
  | { kind: "cancel"; number: number }
  | { kind: "body"; number: number; bytes: Uint8Array }
  | { kind: "end"; number: number }
  | { kind: "credit"; number: number; count: number }
  | { kind: "response"; number: number; head: ResponseHead }
  | { kind: "error"; number: number; error: LaneError }
  | { kind: "done"; number: number };

const HEADER_BYTES = 5;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeFrame(frame: LaneFrame): Uint8Array<ArrayBuffer> {
  switch (frame.kind) {
    case "body":
      return compose(frame, frame.bytes);
    case "credit": {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, frame.count, true);
      return compose(frame, bytes);
    }
    case "request":
    case "response":
      return compose(frame, encoder.encode(JSON.stringify(frame.head)));
    case "error":
      return compose(frame, encoder.encode(JSON.stringify(frame.error)));
    case "cancel":
    case "end":
    case "done":
      return compose(frame, EMPTY);
  }
}

const EMPTY = new Uint8Array();

function compose(
  { kind, number }: { kind: keyof typeof KIND; number: number },
  rest: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES + rest.length);
  bytes[0] = KIND[kind];
  new DataView(bytes.buffer).setUint32(1, number, true);
  bytes.set(rest, HEADER_BYTES);
  return bytes;
}

/** Null for anything that is no frame; a body's bytes are a view of the message. */
export function decodeFrame(message: Uint8Array): LaneFrame | null {
  if (message.length < HEADER_BYTES || message.length > MAX_LANE_FRAME_BYTES) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const number = view.getUint32(1, true);
  const rest = message.subarray(HEADER_BYTES);
  switch (message[0]) {
    case KIND.body:
      return { kind: "body", number, bytes: rest };
    case KIND.credit:
      return rest.length === 4
        ? { kind: "credit", number, count: view.getUint32(HEADER_BYTES, true) }
        : null;
    case KIND.cancel:
      return { kind: "cancel", number };
    case KIND.end:
      return { kind: "end", number };
    case KIND.done:
      return { kind: "done", number };
    case KIND.request: {
      const head = readRequestHead(parse(rest));
      return head && { kind: "request", number, head };
    }
    case KIND.response: {
      const head = readResponseHead(parse(rest));
      return head && { kind: "response", number, head };
    }
    case KIND.error: {
      const error = readError(parse(rest));
      return error && { kind: "error", number, error };
    }
    default:
      return null;
  }
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(decoder.decode(bytes));
    return fieldsIn(value);
  } catch {
    // What is no JSON has none of the fields that are looked for: no frame.
    return {};
  }
}

function readRequestHead(value: Record<string, unknown>): RequestHead | null {
  const { engine, method, path, length, fresh } = value;
  const headers = readHeaders(value["headers"]);
  if (typeof engine !== "string" || typeof method !== "string" || !/^[A-Z]+$/.test(method))
    return null;
  if (typeof path !== "string" || !path.startsWith("/") || headers === null) return null;
  if (length !== null && !isCount(length)) return null;
  return { engine, method, path, headers, length, fresh: fresh === true };
}

function readResponseHead(value: Record<string, unknown>): ResponseHead | null {
  const headers = readHeaders(value["headers"]);
  const { status } = value;
  if (!isCount(status) || status < 200 || status > 599 || headers === null) return null;
  return { status, headers };
}

function readError(value: Record<string, unknown>): LaneError | null {
  const { code, message } = value;
  return typeof code === "string" && typeof message === "string" ? { code, message } : null;
}

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Header fields that can be handed to the platform's `Headers` (RFC 9110, 5.5). */
function readHeaders(value: unknown): [string, string][] | null {
  if (!Array.isArray(value) || value.length > 256) return null;
  const headers: [string, string][] = [];
  for (const field of value as unknown[]) {
    if (!Array.isArray(field) || field.length !== 2) return null;
    const [name, text] = field as unknown[];
    if (typeof name !== "string" || typeof text !== "string") return null;
    if (!HEADER_NAME.test(name) || !HEADER_VALUE.test(text)) return null;
    headers.push([name, text]);
  }
  return headers;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}
