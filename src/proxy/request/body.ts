/** Takes a request's body in, within limits. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { inSlices, Pace } from "../../util/flow/slices.ts";
import { Sweep } from "../../util/flow/sweep.ts";
import { formatBytes } from "../../util/units.ts";
import { Copy } from "../../util/flow/bulk.ts";

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
export class Meter {
  /** How long the client was waited for. */
  waitedMs = 0;
  readonly #limits: BodyLimits;
  #taken = 0;
  #isOver = false;

  constructor(limits: BodyLimits) {
    this.#limits = limits;
  }

  /** Throws `request_too_large`, `overloaded`. */
  add(bytes: number): void {
    const { maxBytes, budget } = this.#limits;
    // A body that still comes in after it was given up would never be given back.
    if (this.#isOver) throw new LlmnodeError("bad_request", "The request was cancelled.");
    if (this.#taken + bytes > maxBytes) throw tooLarge(maxBytes);
    if (!budget.take(bytes)) {
      const message = "The head has no memory left for more request bodies.";
      throw new LlmnodeError("overloaded", message, { retryAfterMs: 1000 });
    }
    this.#taken += bytes;
  }

  /** Gives everything back; again does nothing. */
  free(): void {
    this.#limits.budget.give(this.#taken);
    this.#taken = 0;
    this.#isOver = true;
  }
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
  if (declared !== null && declared <= MAX_AT_ONCE_BYTES) {
    return new Uint8Array(await inTime(request.arrayBuffer(), limits.timeoutMs, meter));
  }
  return inTime(readChunks(request, meter, declared ?? 0), limits.timeoutMs, meter);
}

/** Bun puts a body together in one go at its end, which for 64 MB takes 70 ms. */
const MAX_AT_ONCE_BYTES = 2 * 1024 * 1024;

/** How exact the limit of time is for a body; no body has a timer of its own. */
const LATE_AFTER_MS = 50;

/** A wait for a client's body, that may take too long; it goes on the meter while there is one. */
export class BodyWait {
  static readonly #all = new Sweep<BodyWait>(LATE_AFTER_MS, (wait, now) => wait.#check(now));
  readonly #startedAt = performance.now();
  readonly #timeoutMs: number;
  readonly #meter: Meter | null;
  readonly #onFail: (error: LlmnodeError) => void;

  /** `onFail` is told that it takes too long. */
  constructor(timeoutMs: number, meter: Meter | null, onFail: (error: LlmnodeError) => void) {
    this.#timeoutMs = timeoutMs;
    this.#meter = meter;
    this.#onFail = onFail;
    BodyWait.#all.add(this);
  }

  end(): void {
    BodyWait.#all.delete(this);
    if (this.#meter !== null) this.#meter.waitedMs += performance.now() - this.#startedAt;
  }

  #check(now: number): void {
    if (now - this.#startedAt < this.#timeoutMs) return;
    this.end();
    this.#onFail(tooSlow(this.#timeoutMs));
  }
}

/** Rejects with `bad_request` when the body breaks off or is not there in time. */
export function inTime<T>(reading: Promise<T>, timeoutMs: number, meter: Meter | null): Promise<T> {
  return new Promise((resolve, reject) => {
    const wait = new BodyWait(timeoutMs, meter, reject);
    reading.then(
      (read) => {
        wait.end();
        resolve(read);
      },
      (error: unknown) => {
        wait.end();
        reject(brokenOff(error));
      },
    );
  });
}

export function declaredLength(headers: Headers): number | null {
  const text = headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

/** What a body that could not be read is answered with. */
export function brokenOff(error: unknown): LlmnodeError {
  if (error instanceof LlmnodeError) return error;
  const message = "The request body could not be read to its end.";
  return new LlmnodeError("bad_request", message, { cause: error });
}

/** `counted` bytes are on the meter already. */
async function readChunks(
  request: Request,
  meter: Meter,
  counted: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const held = new HeldBytes(counted);
  // Chunks that have come already follow each other without a turn of the loop between them.
  const pace = new Pace();
  if (request.body) {
    for await (const chunk of request.body) {
      // Also where it adds nothing: it throws once the body was given up.
      meter.add(Math.max(0, held.length + chunk.length - Math.max(held.length, counted)));
      await held.add(chunk);
      if (pace.isDue) await pace.rest();
    }
  }
  return held.take();
}

const LEAST_CAPACITY = 64 * 1024;

/** Bytes that come in chunks, held as one. */
export class HeldBytes {
  length = 0;
  #room: Uint8Array<ArrayBuffer>;

  constructor(capacity: number) {
    this.#room = Buffer.allocUnsafeSlow(capacity);
  }

  /** A view of what is there by now, until more is added. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#room.subarray(0, this.length);
  }

  async add(chunk: Uint8Array): Promise<void> {
    const length = this.length + chunk.length;
    if (length > this.#room.length) {
      const capacity = Math.max(length, 2 * this.#room.length, LEAST_CAPACITY);
      const larger = new Copy([this.bytes], capacity);
      await inSlices(larger);
      this.#room = larger.bytes;
    }
    this.#room.set(chunk, this.length);
    this.length = length;
  }

  /** All bytes; of small ones a copy, so that no more is kept alive than was counted. */
  take(): Uint8Array<ArrayBuffer> {
    const isSmall = this.length <= LEAST_CAPACITY && this.length < this.#room.length;
    return isSmall ? new Uint8Array(this.bytes) : this.bytes;
  }
}

function tooLarge(maxBytes: number): LlmnodeError {
  const message = `The request body is larger than ${formatBytes(maxBytes)}.`;
  return new LlmnodeError("request_too_large", message);
}

function tooSlow(timeoutMs: number): LlmnodeError {
  const message = `The request body was not complete after ${timeoutMs / 1000} s.`;
  return new LlmnodeError("bad_request", message);
}
