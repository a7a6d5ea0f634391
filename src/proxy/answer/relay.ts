/** Passes an engine's answer on to the client, chunk by chunk, at the client's pace. */

import { endsFrame, type StreamFormat } from "../record/frames.ts";
import type { StreamWatch } from "../record/stream-watch.ts";

/** The part of a stream's reader that is used here. */
export interface ChunkReader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
}

/** What lets a stream go on elsewhere when its engine breaks off. */
export interface Continuation {
  /** Called for every chunk that the engine has sent; must be cheap. */
  keep(chunk: Uint8Array): void;
  /**
   * Where in `chunk` the frame begins in which the engine itself says that it has failed, or -1.
   * Called for every chunk before `keep`; must be cheap.
   */
  failureAt(chunk: Uint8Array): number;
  /** Asked once, after a break: what goes on behind the last whole frame; null: nothing does. */
  goOn(): Promise<ChunkReader | null>;
  /** The stream is over: lets go of what is kept, and of what is being tried. */
  stop(): void;
}

export interface RelayOptions {
  reader: ChunkReader;
  /** What was waited for before the client got its status; null: nothing. */
  first: Uint8Array | null;
  /** Null for an answer that is no stream of frames: its break cannot be told in it. */
  format: StreamFormat | null;
  watch: StreamWatch;
  /** The frame that tells a break. */
  breakFrame: () => string;
  /** Silence of the engine after which the client gets a comment; events only. */
  keepAliveMs: number;
  /** How long a client may take no byte. */
  slowClientMs: number;
  /** Without it a stream that breaks is over. Only where `watch` passes whole frames on. */
  continuation?: Continuation | null;
  /** Called for every chunk; must be cheap. */
  onProgress: () => void;
  /** Called twice for every chunk: whether the engine is waited for, or the client. Must be cheap. */
  onReading: (isReading: boolean) => void;
  /** Called once. */
  onEnd: (end: RelayEnd) => void;
}

export type RelayEnd = "ok" | "broken" | "client_gone" | "slow_client";

export const KEEP_ALIVE = new TextEncoder().encode(": keep-alive\n\n");
/** What marks the place where another engine's text begins. */
export const RESUMED = new TextEncoder().encode(": llmnode-resumed\n\n");
const encoder = new TextEncoder();
const NOTHING = new Uint8Array();
const LF = 0x0a;
const CR = 0x0d;

/**
 * The client's body. It pulls one chunk at a time, so that a slow client slows the engine and
 * nothing piles up here. A stream of frames that breaks goes on elsewhere, once, where `continuation`
 * finds a replica; else it ends with an error frame and no `[DONE]`. Any other body ends as a broken
 * connection.
 */
export function relay(options: RelayOptions): ReadableStream<Uint8Array> {
  let running: Relay;
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        running = new Relay(options, controller);
        running.begin();
      },
      pull: () => running.pull(),
      cancel: () => running.end("client_gone"),
    },
    { highWaterMark: 0 },
  );
}

/** A class: what is called for every chunk is made once for a stream. */
class Relay {
  readonly #options: RelayOptions;
  readonly #controller: ReadableStreamDefaultController<Uint8Array>;
  #reader: ChunkReader;
  #continuation: Continuation | null;
  /** What the client got last. */
  #last: Uint8Array;
  #ended = false;
  /** Whether the client waits for the engine, and not the engine for the client. */
  #pulling = false;
  #movedAt = performance.now();
  #timer: ReturnType<typeof setInterval> | undefined;
  readonly #onRead = ({ done, value }: Awaited<ReturnType<ChunkReader["read"]>>) => {
    if (!done && value !== undefined) return this.#take(value);
    this.#finish();
    return undefined;
  };
  readonly #onFailure = (error: unknown) => this.#fail(error);

  constructor(options: RelayOptions, controller: ReadableStreamDefaultController<Uint8Array>) {
    this.#options = options;
    this.#controller = controller;
    this.#reader = options.reader;
    this.#continuation = options.continuation ?? null;
    this.#last = options.first ?? NOTHING;
  }

  begin(): void {
    const { first, watch, keepAliveMs, slowClientMs } = this.#options;
    // Far rarer than chunks, so that they stay cheap.
    const intervalMs = Math.min(keepAliveMs, slowClientMs) / 5;
    this.#timer = setInterval(() => this.#checkSilence(), intervalMs);
    if (first === null) return;
    const failedAt = this.#continuation?.failureAt(first) ?? -1;
    const sound = failedAt === -1 ? first : first.subarray(0, failedAt);
    if (failedAt !== -1) this.#reader = readAgain(first.subarray(failedAt), this.#reader);
    this.#continuation?.keep(sound);
    const out = watch.push(sound);
    if (out !== null) this.#controller.enqueue(out);
  }

  pull(): Promise<void> {
    this.#pulling = true;
    this.#options.onReading(true);
    return this.#read();
  }

  end(how: RelayEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#timer);
    this.#options.continuation?.stop();
    this.#options.onEnd(how);
  }

  // Chained by hand: for every chunk an async function costs more than what is done with it.
  #read(): Promise<void> {
    return this.#reader.read().then(this.#onRead, this.#onFailure);
  }

  #take(value: Uint8Array): Promise<void> | undefined {
    if (this.#ended) return undefined;
    this.#movedAt = performance.now();
    this.#options.onProgress();
    const failedAt = this.#continuation?.failureAt(value) ?? -1;
    if (failedAt !== -1) return this.#failWithin(value, failedAt);
    return this.#pass(value);
  }

  #pass(value: Uint8Array): Promise<void> | undefined {
    this.#last = value;
    this.#continuation?.keep(value);
    const out = this.#options.watch.push(value);
    if (out === null) return this.#read();
    this.#pulling = false;
    this.#options.onReading(false);
    this.#controller.enqueue(out);
    return undefined;
  }

  /** The engine's answer is complete. */
  #finish(): void {
    if (this.#ended) return;
    const rest = this.#options.watch.flush();
    if (rest !== null) this.#controller.enqueue(rest);
    this.#controller.close();
    this.end("ok");
  }

  #fail(error: unknown): Promise<void> | undefined {
    if (this.#ended) return undefined;
    const { watch } = this.#options;
    // Some engines drop the connection behind the last frame; nothing is missing then.
    const complete = watch.isComplete();
    if (this.#continuation && !complete && watch.isBetweenFrames) {
      return this.#resume(() => this.#break(error, complete));
    }
    this.#break(error, complete);
    return undefined;
  }

  #break(error: unknown, complete: boolean): void {
    const { format, watch, breakFrame } = this.#options;
    this.end(complete ? "ok" : "broken");
    if (format === null) return this.#controller.error(error);
    const rest = watch.flush();
    if (rest !== null) this.#controller.enqueue(rest);
    if (!complete) {
      this.#controller.enqueue(encoder.encode(gapAfter(this.#last, format) + breakFrame()));
    }
    this.#controller.close();
  }

  /** The engine reports in its stream that it has failed: the client gets that if no other goes on. */
  #failWithin(value: Uint8Array, at: number): Promise<void> {
    const before = value.subarray(0, at);
    if (at > 0) {
      this.#last = before;
      this.#continuation?.keep(before);
      const out = this.#options.watch.push(before);
      if (out !== null) this.#controller.enqueue(out);
    }
    return this.#resume(() => this.#pass(value.subarray(at)));
  }

  async #resume(otherwise: () => Promise<void> | undefined | void): Promise<void> {
    const continuation = this.#continuation;
    this.#continuation = null;
    const lastOfEngine = this.#last;
    // The client stands between two frames: comments may be sent to it meanwhile.
    this.#last = RESUMED;
    const next = (await continuation?.goOn()) ?? null;
    if (this.#ended) return;
    if (next === null) {
      this.#last = lastOfEngine;
      await otherwise();
      return;
    }
    this.#options.watch.cut();
    this.#reader = next;
    this.#movedAt = performance.now();
    this.#pulling = false;
    this.#options.onReading(false);
    this.#controller.enqueue(RESUMED);
  }

  /** Watches for silence on either side. */
  #checkSilence(): void {
    const { format, keepAliveMs, slowClientMs } = this.#options;
    const stillMs = performance.now() - this.#movedAt;
    if (!this.#pulling && stillMs >= slowClientMs) {
      this.end("slow_client");
      this.#controller.error(new Error("the client takes nothing"));
    } else if (
      this.#pulling &&
      format === "sse" &&
      stillMs >= keepAliveMs &&
      endsFrame(this.#last, format)
    ) {
      this.#movedAt = performance.now();
      this.#controller.enqueue(KEEP_ALIVE);
    }
  }
}

/** A reader that begins with what has been read already. */
function readAgain(chunk: Uint8Array, reader: ChunkReader): ChunkReader {
  let next: Uint8Array | null = chunk;
  return {
    read() {
      if (next === null) return reader.read();
      const value = next;
      next = null;
      return Promise.resolve({ done: false, value });
    },
  };
}

/** What must stand between a chunk and the next frame: the break may lie inside a frame. */
function gapAfter(chunk: Uint8Array, format: StreamFormat): string {
  if (endsFrame(chunk, format)) return "";
  const end = chunk[chunk.length - 1];
  if (format === "ndjson") return "\n";
  return end === LF || end === CR ? "\n" : "\n\n";
}
