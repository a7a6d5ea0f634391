/** Takes a request's body in, within limits. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { formatBytes } from "../../util/units.ts";

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

export interface BodyLimits {
  /** The largest body that is held. */
  maxBytes: number;
  budget: BodyBudget;
  /** How long a client may take to send a body that is held. */
  timeoutMs: number;
}

/** One body's share of the budget. */
export interface Meter {
  /** How long the client was waited for. */
  waitedMs: number;
  /** Throws `request_too_large`, `overloaded`. */
  add(bytes: number): void;
  /** Gives everything back; again does nothing. */
  free(): void;
}

export function createMeter({ maxBytes, budget }: BodyLimits): Meter {
  let taken = 0;
  let isOver = false;
  return {
    waitedMs: 0,
    add(bytes) {
      // A body that still comes in after it was given up would never be given back.
      if (isOver) throw new LlmnodeError("bad_request", "The request was cancelled.");
      if (taken + bytes > maxBytes) throw tooLarge(maxBytes);
      if (!budget.take(bytes)) {
        const message = "The head has no memory left for more request bodies.";
        throw new LlmnodeError("overloaded", message, { retryAfterMs: 1000 });
      }
      taken += bytes;
    },
    free() {
      budget.give(taken);
      taken = 0;
      isOver = true;
    },
  };
}

/**
 * Reads a body whole; its bytes stay on the meter. Throws `request_too_large` (by content-length
 * before reading, else by count), `overloaded`, `bad_request` when it breaks off or takes too long.
 */
export async function readBody(
  request: Request,
  limits: BodyLimits,
  meter: Meter,
): Promise<Uint8Array<ArrayBuffer>> {
  const declared = declaredLength(request.headers);
  if (declared !== null) meter.add(declared);
  const read = declared === null ? readCounted(request, meter) : request.arrayBuffer();
  return new Uint8Array(await inTime(read, limits.timeoutMs, meter));
}

/**
 * Throws `bad_request` when the body breaks off or is not there in time; the wait goes on the meter
 * while there is one.
 */
export async function inTime<T>(
  reading: Promise<T>,
  timeoutMs: number,
  meter: Meter | null,
): Promise<T> {
  const startedAt = performance.now();
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    // By hand: `Promise.race` makes several promises more, for every request.
    return await new Promise<T>((resolve, reject) => {
      timer = setTimeout(() => reject(tooSlow(timeoutMs)), timeoutMs);
      reading.then(resolve, reject);
    });
  } catch (error) {
    throw brokenOff(error);
  } finally {
    clearTimeout(timer);
    if (meter) meter.waitedMs += performance.now() - startedAt;
  }
}

export function declaredLength(headers: Headers): number | null {
  const text = headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

/** What a body that could not be read is answered with. */
function brokenOff(error: unknown): LlmnodeError {
  if (error instanceof LlmnodeError) return error;
  const message = "The request body could not be read to its end.";
  return new LlmnodeError("bad_request", message, { cause: error });
}

async function readCounted(request: Request, meter: Meter): Promise<ArrayBuffer> {
  const chunks: Uint8Array[] = [];
  if (request.body) {
    for await (const chunk of request.body) {
      meter.add(chunk.byteLength);
      chunks.push(chunk);
    }
  }
  // A copy of its own: pooled memory would keep more alive than was counted.
  return new Uint8Array(Buffer.concat(chunks)).buffer;
}

function tooLarge(maxBytes: number): LlmnodeError {
  const message = `The request body is larger than ${formatBytes(maxBytes)}.`;
  return new LlmnodeError("request_too_large", message);
}

function tooSlow(timeoutMs: number): LlmnodeError {
  const message = `The request body was not complete after ${timeoutMs / 1000} s.`;
  return new LlmnodeError("bad_request", message);
}
