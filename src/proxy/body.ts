/** Takes a request's body in, within limits, and reads from it what routing needs. */

import { isUtf8 } from "node:buffer";
import { LlmnodeError } from "../protocol/errors.ts";
import { formatBytes } from "../util/units.ts";
import { JsonScanError, scanObject, type Span, stringAt } from "./json-scan.ts";

/** Memory for all bodies held at once; what does not fit is answered 503, never queued. */
export interface BodyBudget {
  readonly heldBytes: number;
  take(bytes: number): boolean;
  give(bytes: number): void;
}

export function createBodyBudget(maxBytes: number): BodyBudget {
  let held = 0;
  return {
    get heldBytes() {
      return held;
    },
    take(bytes) {
      if (held + bytes > maxBytes) return false;
      held += bytes;
      return true;
    },
    give(bytes) {
      held -= bytes;
    },
  };
}

/** A body in memory; `free` gives its share of the budget back, once. */
export interface HeldBody {
  bytes: Uint8Array<ArrayBuffer>;
  free(): void;
}

export interface BodyLimits {
  maxBytes: number;
  budget: BodyBudget;
}

/**
 * Reads a body whole. Throws `request_too_large` (by content-length before reading, else by
 * count), `overloaded`, `bad_request` when it breaks off.
 */
export async function readBody(request: Request, limits: BodyLimits): Promise<HeldBody> {
  const declared = declaredLength(request);
  if (declared !== null && declared > limits.maxBytes) throw tooLarge(limits.maxBytes);
  const meter = createMeter(limits);
  try {
    if (declared !== null) {
      meter.add(declared);
      return { bytes: new Uint8Array(await request.arrayBuffer()), free: meter.free };
    }
    return { bytes: await readCounted(request, meter), free: meter.free };
  } catch (error) {
    meter.free();
    if (error instanceof LlmnodeError) throw error;
    throw new LlmnodeError("bad_request", "The request body could not be read to its end.", {
      cause: error,
    });
  }
}

/** What routing reads of a JSON body. */
export interface BodyFields {
  model: string;
  stream: boolean;
}

const WANTED: ReadonlySet<string> = new Set(["model", "stream"]);
/** Longer names are nobody's; they would only fill logs. */
const MAX_MODEL_CHARS = 512;

/** Throws `bad_request`, naming the field where there is one. */
export function readFields(bytes: Uint8Array): BodyFields {
  if (!isUtf8(bytes)) throw badRequest("The request body is not valid UTF-8.");
  let spans: Map<string, Span>;
  try {
    spans = scanObject(bytes, WANTED);
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error;
    throw badRequest(`The request body is not a valid JSON object: ${error.message}.`);
  }
  const at = spans.get("model");
  if (!at) throw badRequest("The request has no 'model'.", "model");
  const model = stringAt(bytes, at);
  if (model === null) throw badRequest("'model' must be a string.", "model");
  if (model === "") throw badRequest("'model' must not be empty.", "model");
  if (model.length > MAX_MODEL_CHARS) {
    throw badRequest(`'model' is longer than ${MAX_MODEL_CHARS} characters.`, "model");
  }
  return { model, stream: isTrue(bytes, spans.get("stream")) };
}

interface Meter {
  add(bytes: number): void;
  free: () => void;
}

function createMeter({ maxBytes, budget }: BodyLimits): Meter {
  let taken = 0;
  return {
    add(bytes) {
      if (taken + bytes > maxBytes) throw tooLarge(maxBytes);
      if (!budget.take(bytes)) {
        const message = "The head holds as many request bodies as its memory allows.";
        throw new LlmnodeError("overloaded", message, { retryAfterMs: 1000 });
      }
      taken += bytes;
    },
    free() {
      budget.give(taken);
      taken = 0;
    },
  };
}

async function readCounted(request: Request, meter: Meter): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  if (request.body) {
    for await (const chunk of request.body) {
      meter.add(chunk.byteLength);
      length += chunk.byteLength;
      chunks.push(chunk);
    }
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}

function declaredLength(request: Request): number | null {
  const text = request.headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

function isTrue(bytes: Uint8Array, span: Span | undefined): boolean {
  return span !== undefined && bytes[span.start] === 0x74;
}

function tooLarge(maxBytes: number): LlmnodeError {
  const message = `The request body is larger than ${formatBytes(maxBytes)}.`;
  return new LlmnodeError("request_too_large", message);
}

function badRequest(message: string, param?: string): LlmnodeError {
  return new LlmnodeError("bad_request", message, param === undefined ? {} : { param });
}
