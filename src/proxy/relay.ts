/** Passes an engine's answer on to the client, chunk by chunk, at the client's pace. */

import { endsFrame, type StreamFormat } from "./frames.ts";
import type { StreamWatch } from "./stream-watch.ts";

/** The part of a stream's reader that is used here. */
export interface ChunkReader {
  read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>;
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
  /** Called for every chunk; must be cheap. */
  onProgress: () => void;
  /** Called once. */
  onEnd: (end: RelayEnd) => void;
}

export type RelayEnd = "ok" | "broken" | "client_gone" | "slow_client";

export const KEEP_ALIVE = new TextEncoder().encode(": keep-alive\n\n");
const encoder = new TextEncoder();
const NOTHING = new Uint8Array();
const LF = 0x0a;
const CR = 0x0d;

/**
 * The client's body. It pulls one chunk at a time, so that a slow client slows the engine and
 * nothing piles up here. A stream of frames that breaks ends with an error frame and no `[DONE]`;
 * any other body ends as a broken connection.
 */
export function relay(options: RelayOptions): ReadableStream<Uint8Array> {
  const { reader, format, watch, keepAliveMs, slowClientMs, onProgress, onEnd } = options;
  let last = options.first ?? NOTHING;
  let ended = false;
  let pulling = false;
  let movedAt = performance.now();
  let timer: ReturnType<typeof setInterval> | undefined;
  const end = (how: RelayEnd) => {
    if (ended) return;
    ended = true;
    clearInterval(timer);
    onEnd(how);
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
    last = value;
    const out = watch.push(value);
    if (out === null) return read(controller);
    pulling = false;
    controller.enqueue(out);
    return undefined;
  };
  const fail = (controller: Controller, error: unknown) => {
    if (ended) return;
    // Some engines drop the connection behind the last frame; nothing is missing then.
    const complete = watch.isComplete();
    end(complete ? "ok" : "broken");
    if (format === null) return controller.error(error);
    const rest = watch.flush();
    if (rest !== null) controller.enqueue(rest);
    if (!complete) {
      controller.enqueue(encoder.encode(gapAfter(last, format) + options.breakFrame()));
    }
    controller.close();
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
        const out = options.first === null ? null : watch.push(options.first);
        if (out !== null) controller.enqueue(out);
      },
      pull(controller) {
        pulling = true;
        return read(controller);
      },
      cancel() {
        end("client_gone");
      },
    },
    { highWaterMark: 0 },
  );
}

/** What must stand between a chunk and the next frame: the break may lie inside a frame. */
function gapAfter(chunk: Uint8Array, format: StreamFormat): string {
  if (endsFrame(chunk, format)) return "";
  const end = chunk[chunk.length - 1];
  if (format === "ndjson") return "\n";
  return end === LF || end === CR ? "\n" : "\n\n";
}
