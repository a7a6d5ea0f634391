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
 * finds a way; else it ends with an error frame and no `[DONE]`. Any other body ends as a broken
 * connection.
 */
export function relay(options: RelayOptions): ReadableStream<Uint8Array> {
  const { format, watch, keepAliveMs, slowClientMs, onProgress, onReading } = options;
  let { reader, continuation = null } = options;
  let last = options.first ?? NOTHING;
  let ended = false;
  let pulling = false;
  let movedAt = performance.now();
  let timer: ReturnType<typeof setInterval> | undefined;
  const end = (how: RelayEnd) => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    options.continuation?.stop();
    options.onEnd(how);
  };
  /** Watches for silence on either side; far rarer than chunks, so that they stay cheap. */
  const look = (controller: ReadableStreamDefaultController<Uint8Array>) => {
    const stillMs = performance.now() - movedAt;
    if (!pulling && stillMs >= slowClientMs) {
      end("slow_client");
      controller.error(new Error("the client takes nothing"));
    } else if (pulling && format === "sse" && stillMs >= keepAliveMs && endsFrame(last, format)) {
      movedAt = performance.now();
      controller.enqueue(KEEP_ALIVE);
    }
  };
  type Controller = ReadableStreamDefaultController<Uint8Array>;
  const take = (
    controller: Controller,
    value: Uint8Array | undefined,
  ): Promise<void> | undefined => {
    if (ended) return undefined;
    movedAt = performance.now();
    if (value === undefined) {
      const rest = watch.flush();
      if (rest !== null) controller.enqueue(rest);
      controller.close();
      end("ok");
      return undefined;
    }
    onProgress();
    const failedAt = continuation?.failureAt(value) ?? -1;
    if (failedAt !== -1) return failWithin(controller, value, failedAt);
    return pass(controller, value);
  };
  const pass = (controller: Controller, value: Uint8Array): Promise<void> | undefined => {
    last = value;
    continuation?.keep(value);
    const out = watch.push(value);
    if (out === null) return read(controller);
    pulling = false;
    onReading(false);
    controller.enqueue(out);
    return undefined;
  };
  const fail = (controller: Controller, error: unknown): Promise<void> | undefined => {
    if (ended) return undefined;
    // Some engines drop the connection behind the last frame; nothing is missing then.
    const complete = watch.isComplete();
    if (continuation && !complete && watch.isBetweenFrames) {
      return resume(controller, () => void close(controller, { error, complete }));
    }
    close(controller, { error, complete });
    return undefined;
  };
  const close = (controller: Controller, how: { error: unknown; complete: boolean }) => {
    end(how.complete ? "ok" : "broken");
    if (format === null) return controller.error(how.error);
    const rest = watch.flush();
    if (rest !== null) controller.enqueue(rest);
    if (!how.complete) {
      controller.enqueue(encoder.encode(gapAfter(last, format) + options.breakFrame()));
    }
    controller.close();
  };
  /** The engine says in its stream that it has failed: the client hears of it if nobody else goes on. */
  const failWithin = (controller: Controller, value: Uint8Array, at: number) => {
    const before = value.subarray(0, at);
    if (at > 0) {
      last = before;
      continuation?.keep(before);
      const out = watch.push(before);
      if (out !== null) controller.enqueue(out);
    }
    return resume(controller, () => pass(controller, value.subarray(at)));
  };
  const resume = (controller: Controller, otherwise: () => Promise<void> | undefined) => {
    const asked = continuation?.goOn() ?? Promise.resolve(null);
    continuation = null;
    const lastOfEngine = last;
    // The client stands between two frames: comments may be sent to it meanwhile.
    last = RESUMED;
    return asked.then((next) => {
      if (ended) return undefined;
      if (next === null) {
        last = lastOfEngine;
        return otherwise();
      }
      watch.cut();
      reader = next;
      movedAt = performance.now();
      pulling = false;
      onReading(false);
      controller.enqueue(RESUMED);
      return undefined;
    });
  };
  // Chained by hand: for every chunk an async function costs more than what is done with it.
  const read = (controller: Controller): Promise<void> =>
    reader.read().then(
      ({ done, value }) => take(controller, done ? undefined : value),
      (error: unknown) => fail(controller, error),
    );
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        timer = setInterval(look, Math.min(keepAliveMs, slowClientMs) / 5, controller);
        const { first } = options;
        if (first === null) return;
        const failedAt = continuation?.failureAt(first) ?? -1;
        const sound = failedAt === -1 ? first : first.subarray(0, failedAt);
        if (failedAt !== -1) reader = readAgain(first.subarray(failedAt), reader);
        continuation?.keep(sound);
        const out = watch.push(sound);
        if (out !== null) controller.enqueue(out);
      },
      pull(controller) {
        pulling = true;
        onReading(true);
        return read(controller);
      },
      cancel() {
        end("client_gone");
      },
    },
    { highWaterMark: 0 },
  );
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
