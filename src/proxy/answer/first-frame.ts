/** Waits for the first frame of an answer, so that a failure in it can still be a proper error. */

import { readEngineError } from "../record/engine-error.ts";
import { type AttemptFailure, engineFailure } from "./failure.ts";
import { endsFrame, frameData, lastFrameEnd, type StreamFormat } from "../record/frames.ts";
import type { Dialect } from "../request/routes.ts";
import { holds } from "../../util/flow/bytes.ts";
import { isRecord, parseJson } from "../../util/json.ts";

/** How much is waited for when the first frame does not end. */
const MAX_FIRST_BYTES = 64 * 1024;

/** The beginning of an answer: the first piece, or of a stream as many as make a frame. */
export class FirstFrame {
  readonly #format: StreamFormat | null;
  /** What has come while no frame has ended; null: nothing. */
  bytes: Uint8Array | null = null;

  constructor(format: StreamFormat | null) {
    this.#format = format;
  }

  /** What the answer begins with, once that is known; null until then. */
  add(chunk: Uint8Array): Uint8Array | null {
    const bytes = this.bytes === null ? chunk : Buffer.concat([this.bytes, chunk]);
    this.bytes = bytes;
    const format = this.#format;
    if (format === null || endsFrame(bytes, format)) return bytes;
    return bytes.length > MAX_FIRST_BYTES || lastFrameEnd(bytes, format) > 0 ? bytes : null;
  }
}

const ERROR_KEY = Buffer.from('"error"');
const decoder = new TextDecoder();

/** What a stream whose first frame is an error has failed with; null for any other stream. */
export function errorIn(
  first: Uint8Array,
  { format, dialect }: { format: StreamFormat; dialect: Dialect },
): AttemptFailure | null {
  if (!holds(first, ERROR_KEY)) return null;
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
