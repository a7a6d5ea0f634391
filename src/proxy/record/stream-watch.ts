/** Looks at a stream as it passes: counts its chunks, keeps its first frame and its end. */

import { holds } from "../../util/flow/bytes.ts";
import {
  endsFrame,
  frameData,
  framesFromEnd,
  lastFrameEnd,
  splitFrames,
  type StreamFormat,
} from "./frames.ts";
import { parseJson } from "../../util/json.ts";
import { Tail } from "./tail.ts";
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

/** What the last frames of nearly all streams have room in. */
const LAST_BYTES = 2048;
/** How much of a frame that is not complete may be held back. */
const MAX_HELD_BYTES = 64 * 1024;

export function createStreamWatch(options: WatchOptions): StreamWatch {
  return new Watch(options);
}

/** Classes here and below: every stream has one of each, and every chunk passes through them. */
class Watch implements StreamWatch {
  chunks = 0;
  bytes = 0;
  readonly #format: StreamFormat | null;
  readonly #tail: Tail;
  /** Null where every chunk goes on as it is. */
  readonly #gate: FrameGate | null;
  #first: Uint8Array | null = null;
  /** Of the tail, beside what has passed. */
  #addedBytes = 0;
  #read: { chunks: number; facts: AnswerFacts } | null = null;

  constructor({ format, dropUsage, wholeFrames = false, tailBytes }: WatchOptions) {
    this.#format = format;
    this.#tail = new Tail(tailBytes);
    this.#gate = dropUsage || wholeFrames ? new FrameGate(dropUsage) : null;
  }

  get isBetweenFrames(): boolean {
    return this.#gate?.isBetweenFrames ?? true;
  }

  push(chunk: Uint8Array): Uint8Array | null {
    this.chunks += 1;
    this.bytes += chunk.length;
    this.#first ??= chunk;
    this.#tail.add(chunk);
    return this.#gate === null ? chunk : this.#gate.push(chunk);
  }

  flush(): Uint8Array | null {
    return this.#gate?.flush() ?? null;
  }

  cut(): void {
    this.#gate?.flush();
    // What was kept of the cut frame must not swallow the next one.
    this.#tail.add(FRAME_END);
    this.#addedBytes += FRAME_END.length;
    this.#read = null;
  }

  tail(maxBytes: number): Uint8Array {
    return this.#tail.joined().subarray(-maxBytes);
  }

  facts(): AnswerFacts {
    // Asked for at the end by the lease and by the record: read once.
    if (this.#read?.chunks !== this.chunks) {
      this.#read = { chunks: this.chunks, facts: this.#readFacts() };
    }
    return this.#read.facts;
  }

  #readFacts(): AnswerFacts {
    const format = this.#format;
    if (format === null) {
      const end = this.#tail.joined();
      return factsOfJson(end, end.length === this.bytes);
    }
    const first = this.#first;
    const isKept = first === null || this.#tail.startsWith(first);
    const start = isKept ? NO_FACTS : readFrames(first, format).facts;
    const dropped = this.#gate?.dropped ?? NO_FACTS;
    // Nearly always the last few frames tell all.
    let end = readFrames(this.#tail.last(LAST_BYTES), format);
    if (!end.isAll) end = readFrames(this.#tail.joined(), format);
    return mergeFacts(dropped, mergeFacts(start, end.facts));
  }

  frames(): number {
    if (this.#format === null) return this.chunks;
    const end = this.#tail.joined();
    const frames = frameData(decoder.decode(end), this.#format);
    const counted = frames.filter((data) => data !== "[DONE]").length;
    if (end.length === this.bytes + this.#addedBytes) return counted;
    // What is kept may begin inside a frame, which then is not counted.
    return Math.round(((counted + 1) * this.bytes) / end.length);
  }

  isComplete(): boolean {
    if (this.#format === null) return false;
    for (const { data } of framesFromEnd(this.#tail.joined(), this.#format)) {
      return data === "[DONE]" || isLast(parseJson(data));
    }
    return false;
  }
}

/** Lets whole frames of a stream of events through, and takes out that of usage if it is to. */
class FrameGate {
  /** What the frames that were taken out have said. */
  dropped: AnswerFacts = NO_FACTS;
  isBetweenFrames = true;
  readonly #dropUsage: boolean;
  #held: Uint8Array | null = null;

  constructor(dropUsage: boolean) {
    this.#dropUsage = dropUsage;
  }

  push(chunk: Uint8Array): Uint8Array | null {
    if (
      this.#held === null &&
      endsFrame(chunk, "sse") &&
      !(this.#dropUsage && mayHoldUsage(chunk))
    ) {
      this.isBetweenFrames = true;
      return chunk;
    }
    const data: Uint8Array = this.#held === null ? chunk : Buffer.concat([this.#held, chunk]);
    const end = lastFrameEnd(data, "sse");
    this.#held = end < data.length ? data.subarray(end) : null;
    if (this.#held !== null && this.#held.length > MAX_HELD_BYTES) {
      this.#held = null;
      this.isBetweenFrames = false;
      return data;
    }
    if (end > 0) this.isBetweenFrames = true;
    if (!this.#dropUsage) return end > 0 ? data.subarray(0, end) : null;
    return this.#withoutUsage(data.subarray(0, end));
  }

  /** What is held back, which then is not any more. */
  flush(): Uint8Array | null {
    const rest = this.#held;
    this.#held = null;
    return rest;
  }

  #withoutUsage(whole: Uint8Array): Uint8Array | null {
    const frames = splitFrames(whole, "sse").filter((frame) => {
      const facts = usageFrame(frame);
      if (facts) this.dropped = facts;
      return facts === null;
    });
    return frames.length === 0 ? null : Buffer.concat(frames);
  }
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

/** Frames of which one has told what is to be told, or none will. */
const MOST_FRAMES = 64;

/**
 * Reads the frames from the last one back, until what they can tell is told; `isAll` says that what
 * comes before `bytes` would not be read.
 */
function readFrames(
  bytes: Uint8Array,
  format: StreamFormat,
): { facts: AnswerFacts; isAll: boolean } {
  let facts = NO_FACTS;
  let count = 0;
  for (const { data, at } of framesFromEnd(bytes, format)) {
    count += 1;
    if (data !== "[DONE]") facts = mergeFacts(factsOf(parseJson(data)), facts);
    const { usage, finishReason } = facts;
    const isAll =
      count === MOST_FRAMES ||
      (usage?.input != null && usage.output != null && finishReason !== null);
    // The first one may have begun before.
    if (isAll) return { facts, isAll: at > 0 };
  }
  return { facts, isAll: false };
}
