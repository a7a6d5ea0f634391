/** A service's request body: held where it is small, so that it can be sent again; else streamed. */

import { type BodyLimits, declaredLength, inTime, Meter, readBody } from "../request/body.ts";
import type { BodyContent } from "../../util/http/exchange.ts";

export interface ServiceBody {
  /** In bytes; null while it is not known. */
  readonly length: number | null;
  /** How long the client was waited for. */
  readonly waitedMs: number;
  /** Whether it can be sent as often as one likes. */
  readonly isHeld: boolean;
  /** Whether it can still be sent whole. */
  readonly isWhole: boolean;
  content(): BodyContent;
  /** Lets the memory go; nothing can be sent any more. */
  free(): void;
}

export const NO_BODY: ServiceBody = {
  length: 0,
  waitedMs: 0,
  isHeld: true,
  isWhole: true,
  content: () => null,
  free() {},
};

/** A body of known length up to this is held. */
const HELD_BYTES = 1024 * 1024;

/** Throws what `readBody` throws. A stream has no limit: no more of it is here than one chunk. */
export async function readServiceBody(request: Request, limits: BodyLimits): Promise<ServiceBody> {
  const length = declaredLength(request.headers);
  if (request.body === null || length === 0) return held(null, null);
  if (length === null || length > Math.min(HELD_BYTES, limits.maxBytes)) {
    return streamed(request.body, { length, timeoutMs: limits.timeoutMs });
  }
  const meter = new Meter(limits);
  try {
    return held(await readBody(request, limits, meter), meter);
  } catch (error) {
    meter.free();
    throw error;
  }
}

function held(bytes: Uint8Array<ArrayBuffer> | null, meter: Meter | null): ServiceBody {
  let content = bytes;
  return {
    length: bytes?.byteLength ?? 0,
    waitedMs: meter?.waitedMs ?? 0,
    isHeld: true,
    isWhole: true,
    content: () => content,
    free() {
      meter?.free();
      // The request itself lives as long as its answer: its body must not.
      content = null;
    },
  };
}

function streamed(
  body: ReadableStream<Uint8Array>,
  { length, timeoutMs }: { length: number | null; timeoutMs: number },
): ServiceBody {
  const reader = body.getReader();
  let isWhole = true;
  return {
    length,
    waitedMs: 0,
    isHeld: false,
    get isWhole() {
      return isWhole;
    },
    // A new one for each try: nothing is taken before somebody reads, so that a refused connection
    // leaves the body as it was.
    content: () =>
      new ReadableStream<Uint8Array>(
        {
          async pull(controller) {
            isWhole = false;
            const { done, value } = await inTime(reader.read(), timeoutMs, null);
            if (done || value === undefined) controller.close();
            else controller.enqueue(value);
          },
          cancel: () => (isWhole ? undefined : reader.cancel()),
        },
        { highWaterMark: 0 },
      ),
    free() {
      if (isWhole) void reader.cancel().catch(() => null);
    },
  };
}
