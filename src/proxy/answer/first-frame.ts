/** Waits for the first frame of an answer, so that a failure in it can still be a proper error. */

import { readEngineError } from "../record/engine-error.ts";
import { type AttemptFailure, engineFailure } from "./failure.ts";
import { endsFrame, frameData, lastFrameEnd, type StreamFormat } from "../record/frames.ts";
import type { ChunkReader } from "./relay.ts";
import type { Dialect } from "../request/routes.ts";
import { isRecord, parseJson } from "../../util/json.ts";

/** How much is waited for when the first frame does not end. */
const MAX_FIRST_BYTES = 64 * 1024;

/** The first chunk, or of a stream as many as make a frame; null when there is none. */
export async function readFirst(
  reader: ChunkReader,
  format: StreamFormat | null,
): Promise<Uint8Array | null> {
  let first: Uint8Array | null = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done || value === undefined) return first;
    first = first === null ? value : Buffer.concat([first, value]);
    if (format === null || endsFrame(first, format)) return first;
    if (first.length > MAX_FIRST_BYTES || lastFrameEnd(first, format) > 0) return first;
  }
}

const ERROR_KEY = Buffer.from('"error"');
const decoder = new TextDecoder();

/** What a stream whose first frame is an error has failed with; null for any other stream. */
export function errorIn(
  first: Uint8Array,
  { format, dialect }: { format: StreamFormat; dialect: Dialect },
): AttemptFailure | null {
  if (!Buffer.from(first.buffer, first.byteOffset, first.length).includes(ERROR_KEY)) return null;
  const [data = ""] = frameData(decoder.decode(first), format);
  const value = parseJson(data);
  if (!isRecord(value)) return null;
  const isFlat = value["object"] === "error" || value["type"] === "error";
  const given = value["error"] ?? (isFlat ? value : null);
  const reported = given === null ? null : readEngineError(value);
  if (!reported) return null;
  const status = statusOf(isRecord(given) ? given["code"] : undefined, reported.type);
  return engineFailure(reported, { status, retryAfter: null, dialect });
}

/** The status that the engine would have answered with, had it not begun its answer already. */
function statusOf(code: unknown, type: string | null): number {
  if (typeof code === "number" && code >= 400 && code < 600) return code;
  if (type === null) return 500;
  if (/overloaded/i.test(type)) return 503;
  return /invalid_request|bad_?request|validation/i.test(type) ? 400 : 500;
}
