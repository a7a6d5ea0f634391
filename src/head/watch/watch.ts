/** `GET /api/v1/watch`: a stream of frames for each viewer, of the chosen view, at its own pace. */

import { LlmnodeError } from "../../protocol/errors.ts";
import {
  WATCH_SCHEMA,
  type WatchFrame,
  type WatchHello,
  type WatchLag,
  type WatchQuery,
} from "../../protocol/watch-json.ts";
import { frameOf, type FrameSource } from "./frames.ts";

export interface WatchOptions extends FrameSource {
  settings?: Partial<WatchSettings>;
}

const WATCH_SETTINGS = {
  /** More are refused for now. */
  maxViewers: 64,
  /** Silence after which a comment is sent. */
  keepAliveMs: 5000,
};
export type WatchSettings = typeof WATCH_SETTINGS;

export interface Viewer {
  role: WatchHello["role"];
  /** Where this viewer reaches the head. */
  apiUrl: string;
  /** Called once, when the stream is over. */
  onEnd: () => void;
}

export interface Watch extends Disposable {
  /** Throws `overloaded` when there are too many viewers. */
  open(query: WatchQuery, viewer: Viewer): Response;
  /** Another query for a stream that runs. Throws `not_found`. */
  ask(id: string, query: WatchQuery): void;
  /** A single frame. */
  frame(query: WatchQuery): Promise<WatchFrame>;
  readonly viewers: number;
}

const encoder = new TextEncoder();
const KEEP_ALIVE = encoder.encode(": keep-alive\n\n");

export function createWatch(options: WatchOptions): Watch {
  const { source, now } = options;
  const settings = { ...WATCH_SETTINGS, ...options.settings };
  const streams = new Map<string, ViewerStream>();
  return {
    open(query, viewer) {
      if (streams.size >= settings.maxViewers) {
        const message = `There are already ${settings.maxViewers} viewers of this cluster.`;
        throw new LlmnodeError("overloaded", message, { retryAfterMs: 10_000 });
      }
      const id = crypto.randomUUID();
      const { apiUrl, role, onEnd } = viewer;
      const facts = options.head();
      const hello: WatchHello = {
        schema: WATCH_SCHEMA,
        watch: id,
        head: { ...facts, time: new Date(now()).toISOString(), api_url: apiUrl },
        role,
        query,
        history: source.history.json(),
      };
      const stream = new ViewerStream({
        query,
        hello,
        from: options,
        keepAliveMs: settings.keepAliveMs,
        onEnd() {
          streams.delete(id);
          onEnd();
        },
      });
      streams.set(id, stream);
      const headers = {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      };
      return new Response(stream.body, { headers });
    },
    ask(id, query) {
      const stream = streams.get(id);
      if (!stream) throw new LlmnodeError("not_found", "This stream has ended, or never was.");
      stream.ask(query);
    },
    async frame(query) {
      const data = await source.data();
      return frameOf(options, query, { data, number: 1, seenPoints: source.history.count });
    },
    get viewers() {
      return streams.size;
    },
    [Symbol.dispose]() {
      for (const stream of [...streams.values()]) stream.end();
    },
  };
}

interface StreamOptions {
  query: WatchQuery;
  hello: WatchHello;
  from: FrameSource;
  keepAliveMs: number;
  onEnd: () => void;
}

/**
 * A frame is made only when the last one was read: a slow viewer gets fewer, and is told how many it
 * missed.
 */
class ViewerStream {
  readonly body: ReadableStream<Uint8Array>;
  readonly #options: StreamOptions;
  #query: WatchQuery;
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Whether the viewer has read all that was sent, and whether it is time for a frame. */
  #isWanted = false;
  #isDue = true;
  #isOver = false;
  #frames = 0;
  #dropped = 0;
  #seenPoints: number;
  #sentAt = performance.now();

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#query = options.query;
    this.#seenPoints = options.from.source.history.count;
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
          this.#send("hello", options.hello);
          this.#startTimer();
        },
        pull: () => {
          this.#isWanted = true;
          void this.#show();
          // Until there is something to send again.
          return undefined;
        },
        cancel: () => this.#finish(),
      },
      { highWaterMark: 1 },
    );
  }

  ask(query: WatchQuery): void {
    const isOther = query.interval_ms !== this.#query.interval_ms;
    this.#query = query;
    this.#isDue = true;
    if (isOther) this.#startTimer();
    void this.#show();
  }

  end(): void {
    if (this.#isOver) return;
    this.#finish();
    this.#controller?.close();
  }

  #startTimer(): void {
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#tick(), this.#query.interval_ms);
  }

  #tick(): void {
    if (this.#isDue) this.#dropped += 1;
    this.#isDue = true;
    void this.#show();
    if (this.#isWanted && performance.now() - this.#sentAt >= this.#options.keepAliveMs) {
      this.#sentAt = performance.now();
      this.#controller?.enqueue(KEEP_ALIVE);
    }
  }

  async #show(): Promise<void> {
    if (!this.#isWanted || !this.#isDue || this.#isOver) return;
    this.#isWanted = false;
    this.#isDue = false;
    const { from } = this.#options;
    const data = await from.source.data();
    if (this.#isOver) return;
    this.#frames += 1;
    if (this.#dropped > 0) this.#send("lag", { dropped: this.#dropped });
    this.#dropped = 0;
    const shown = { data, number: this.#frames, seenPoints: this.#seenPoints };
    this.#send("frame", frameOf(from, this.#query, shown));
    this.#seenPoints = from.source.history.count;
  }

  #send(event: string, data: WatchHello | WatchFrame | WatchLag): void {
    this.#sentAt = performance.now();
    this.#controller?.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
  }

  #finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearInterval(this.#timer);
    this.#options.onEnd();
  }
}
