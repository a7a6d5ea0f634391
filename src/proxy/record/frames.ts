/** Streams of events and of JSON lines: where a frame ends, what it holds. */

import { type AnswerHead, fieldIn } from "../../util/http/exchange.ts";

export type StreamFormat = "sse" | "ndjson";

const LF = 0x0a;
const CR = 0x0d;

/** Which kind of stream an answer is; null for an answer that is none, or that cannot be read. */
export function formatOf(head: AnswerHead): StreamFormat | null {
  if ((fieldIn(head, "content-encoding") ?? "identity") !== "identity") return null;
  const type = fieldIn(head, "content-type") ?? "";
  if (type.startsWith("text/event-stream")) return "sse";
  return /^application\/(x-ndjson|jsonl|x-jsonlines)/.test(type) ? "ndjson" : null;
}

/**
 * The position behind the last frame that is complete in `bytes`, 0 when none is. An event ends
 * with an empty line, whichever of LF, CRLF or CR ends lines; a JSON line with LF.
 */
export function lastFrameEnd(bytes: Uint8Array, format: StreamFormat): number {
  if (format === "ndjson") return bytes.lastIndexOf(LF) + 1;
  for (let at = bytes.length - 1; at > 0; at -= 1) {
    if (isLineEnd(bytes[at]) && isEventEnd(bytes, at)) return at + 1;
  }
  return 0;
}

/** Whether `bytes` ends where a frame does; cheap, for every chunk. */
export function endsFrame(bytes: Uint8Array, format: StreamFormat): boolean {
  const last = bytes.length - 1;
  if (format === "ndjson") return bytes[last] === LF;
  return last > 0 && isLineEnd(bytes[last]) && isEventEnd(bytes, last);
}

function isLineEnd(byte: number | undefined): boolean {
  return byte === LF || byte === CR;
}

/** Whether the line end at `at` follows another one, so that the line between them is empty. */
function isEventEnd(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] === CR) return bytes[at - 1] === CR;
  return bytes[bytes[at - 1] === CR ? at - 2 : at - 1] === LF;
}

const ONE_LINE = /^data: [^\r\n]+\n\n$/;

/** The data of each complete or last frame in `text`, in order; comments and names left out. */
export function frameData(text: string, format: StreamFormat): string[] {
  if (format === "ndjson") return text.split("\n").filter((line) => line.trim() !== "");
  // Most often it is one frame of one line, as engines send it.
  if (ONE_LINE.test(text)) return [text.slice(6, -2)];
  return text
    .split(/\r\n\r\n|\n\n|\r\r/)
    .map((event) =>
      event
        .split(/\r\n|\n|\r/)
        .flatMap((line) => (line.startsWith("data:") ? line.slice(5).replace(/^ /, "") : []))
        .join("\n"),
    )
    .filter((data) => data !== "");
}

/**
 * The data of the frames in `bytes`, from the last one back, with where each begins; the last one may
 * not be complete. What is not asked for is not looked at.
 */
export function* framesFromEnd(
  bytes: Uint8Array,
  format: StreamFormat,
): Generator<{ data: string; at: number }> {
  for (let end = bytes.length; end > 0;) {
    // Without the frame's own end, as far as it is needed to be one.
    const at = lastFrameEnd(bytes.subarray(0, end - 1), format);
    for (const data of frameData(decoder.decode(bytes.subarray(at, end)), format)) {
      yield { data, at };
    }
    end = at;
  }
}

const decoder = new TextDecoder();

/** Splits bytes that end with a frame into frames, each with its end. */
export function splitFrames(bytes: Uint8Array, format: StreamFormat): Uint8Array[] {
  const frames: Uint8Array[] = [];
  let start = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    const ends =
      format === "ndjson" ? byte === LF : isLineEnd(byte) && at > start && isEventEnd(bytes, at);
    if (!ends) continue;
    frames.push(bytes.subarray(start, at + 1));
    start = at + 1;
  }
  if (start < bytes.length) frames.push(bytes.subarray(start));
  return frames;
}
