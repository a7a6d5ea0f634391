/** Looks at a stream as it passes: counts its chunks, keeps its first frame and its end. */

import { holds } from "../../util/bytes.ts";
import { endsFrame, frameData, lastFrameEnd, splitFrames, type StreamFormat } from "./frames.ts";
import { parseJson } from "../../util/json.ts";
import { type AnswerFacts, factsOf, factsOfJson, mergeFacts, NO_FACTS } from "./usage.ts";

export interface StreamWatch {
  readonly chunks: number;
  readonly bytes: number;
  /** What goes on to the client for this chunk; null when it is held back for now. */
  push(chunk: Uint8Array): Uint8Array | null;
  /** What is held back, when the stream is over or broken. */
  flush(): Uint8Array | null;
  /** Drops what is held back: the stream goes on behind its last whole frame. */
  cut(): void;
  /** Whether what has gone on to the client ends with a frame; only where `wholeFrames` is set. */
  readonly isBetweenFrames: boolean;
  /** Up to so many bytes of the end. */
  tail(maxBytes: number): Uint8Array;
  /** Read from what was kept: usage, finish reason, an error in the stream. */
  facts(): AnswerFacts;
  /** Frames that have passed: counted in what was kept, and projected from it to all the bytes. */
  frames(): number;
  /** Whether the last frame says that the answer is complete. */
  isComplete(): boolean;
}

export interface WatchOptions {
  /** Null for an answer that is no stream of frames: then its end is kept all the same. */
  format: StreamFormat | null;
  /** Takes out the usage frame that the client did not ask for; OpenAI's streams only. */
  dropUsage: boolean;
  /** Passes frames on whole, so that the client never has a part of one. Streams of events only. */
  wholeFrames?: boolean;
  /** How much of the end is kept. */
  tailBytes: number;
}

/** How much of a frame that is not complete may be held back. */
const MAX_HELD_BYTES = 64 * 1024;
/** The last frames of a stream that comes in the smallest of pieces need so much. */
const LEAST_KEPT_BYTES = 4096;

export function createStreamWatch(options: WatchOptions): StreamWatch {
  const { format, dropUsage, wholeFrames = false, tailBytes } = options;
  let chunks = 0;
  let bytes = 0;
  let first: Uint8Array | null = null;
  let tail: Uint8Array[] = [];
  let tailLength = 0;
  let held: Uint8Array | null = null;
  let dropped: AnswerFacts = NO_FACTS;
  let isBetweenFrames = true;
  /** Of the tail, beside what has passed. */
  let addedBytes = 0;

  const keep = (chunk: Uint8Array) => {
    tail.push(chunk);
    tailLength += chunk.length;
    // Dropping one by one would move the rest for every chunk.
    if (tail.length < 256 && tailLength <= 2 * tailBytes) return;
    let kept = 0;
    let from = tail.length;
    const isWanted = () => tail.length - from < 64 || kept < LEAST_KEPT_BYTES;
    while (from > 0 && kept < tailBytes && isWanted()) {
      from -= 1;
      kept += tail[from]?.length ?? 0;
    }
    const rest = tail.slice(from);
    tail = rest.length > 64 ? [Buffer.concat(rest)] : rest;
    tailLength = kept;
  };

  const inFrames = (chunk: Uint8Array): Uint8Array | null => {
    if (held === null && endsFrame(chunk, "sse") && !(dropUsage && mayHoldUsage(chunk))) {
      isBetweenFrames = true;
      return chunk;
    }
    const data: Uint8Array = held === null ? chunk : Buffer.concat([held, chunk]);
    const end = lastFrameEnd(data, "sse");
    held = end < data.length ? data.subarray(end) : null;
    if (held !== null && held.length > MAX_HELD_BYTES) {
      held = null;
      isBetweenFrames = false;
      return data;
    }
    if (end > 0) isBetweenFrames = true;
    if (!dropUsage) return end > 0 ? data.subarray(0, end) : null;
    const frames = splitFrames(data.subarray(0, end), "sse").filter((frame) => {
      const facts = usageFrame(frame);
      if (facts) dropped = facts;
      return facts === null;
    });
    return frames.length === 0 ? null : Buffer.concat(frames);
  };

  let read: { chunks: number; facts: AnswerFacts } | null = null;
  const readFacts = (): AnswerFacts => {
    const end = Buffer.concat(tail);
    if (format === null) return factsOfJson(end, end.length === bytes);
    const start = first === null || tail[0] === first ? NO_FACTS : readFrames(first, format);
    return mergeFacts(dropped, mergeFacts(start, readFrames(end, format)));
  };

  return {
    get chunks() {
      return chunks;
    },
    get bytes() {
      return bytes;
    },
    push(chunk) {
      chunks += 1;
      bytes += chunk.length;
      first ??= chunk;
      keep(chunk);
      return dropUsage || wholeFrames ? inFrames(chunk) : chunk;
    },
    flush() {
      const rest = held;
      held = null;
      return rest;
    },
    cut() {
      held = null;
      // What was kept of the cut frame must not swallow the next one.
      keep(FRAME_END);
      addedBytes += FRAME_END.length;
      read = null;
    },
    get isBetweenFrames() {
      return isBetweenFrames;
    },
    tail: (maxBytes) => Buffer.concat(tail).subarray(-maxBytes),
    facts() {
      // Asked for at the end by the lease and by the record: read once.
      if (read?.chunks !== chunks) read = { chunks, facts: readFacts() };
      return read.facts;
    },
    frames() {
      if (format === null) return chunks;
      const end = Buffer.concat(tail);
      const told = frameData(decoder.decode(end), format).filter((data) => data !== "[DONE]");
      if (end.length === bytes + addedBytes) return told.length;
      // What is kept may begin inside a frame, which then is not told.
      return Math.round(((told.length + 1) * bytes) / end.length);
    },
    isComplete() {
      if (format === null) return false;
      const data = frameData(decoder.decode(Buffer.concat(tail)), format).at(-1) ?? "";
      return data === "[DONE]" || isLast(parseJson(data));
    },
  };
}

const FRAME_END = Buffer.from("\n\n");
const EMPTY_LIST = Buffer.from("[]");
const NO_CHOICES = [Buffer.from('"choices":[]'), Buffer.from('"choices": []')];

/** For every chunk: the first search answers for nearly all. */
function mayHoldUsage(chunk: Uint8Array): boolean {
  return holds(chunk, EMPTY_LIST) && NO_CHOICES.some((needle) => holds(chunk, needle));
}

/** The facts of a frame that tells usage and nothing else, null for any other. */
function usageFrame(frame: Uint8Array): AnswerFacts | null {
  if (!mayHoldUsage(frame)) return null;
  const [data = ""] = frameData(decoder.decode(frame), "sse");
  const value = parseJson(data);
  if (typeof value !== "object" || value === null || !("choices" in value)) return null;
  if (!Array.isArray(value.choices) || value.choices.length > 0) return null;
  const facts = factsOf(value);
  return facts.usage === null ? null : facts;
}

const decoder = new TextDecoder();

/** Whether an event is the last of its stream: Ollama's, Anthropic's, those of the Responses API. */
function isLast(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if ("done" in value) return value.done === true;
  return "type" in value && (value.type === "message_stop" || value.type === "response.completed");
}

/** Reads the frames from the last one back, until what they can tell is told. */
function readFrames(bytes: Uint8Array, format: StreamFormat): AnswerFacts {
  const frames = frameData(decoder.decode(bytes), format);
  let facts = NO_FACTS;
  for (const data of frames.slice(-64).reverse()) {
    if (data === "[DONE]") continue;
    facts = mergeFacts(factsOf(parseJson(data)), facts);
    if (facts.usage?.input != null && facts.usage.output != null && facts.finishReason !== null)
      break;
  }
  return facts;
}
