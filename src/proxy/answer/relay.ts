/** Passes an engine's answer on to the client, piece by piece, at the client's pace. */

import type { ClientStream } from "./client-stream.ts";
import { endsFrame, type StreamFormat } from "../record/frames.ts";
import type { StreamWatch } from "../record/stream-watch.ts";
import type { AnswerSink } from "../../util/http/exchange.ts";

/** Takes what comes of a body. */
export type BodySink = Pick<AnswerSink, "data" | "end" | "fail">;

/** Where a stream goes on whose engine has broken off. */
export interface GoingOn {
  /** What comes next; more of it comes only after `begin`. */
  first: Uint8Array;
  begin(sink: BodySink): void;
}

/** What lets a stream go on elsewhere when its engine breaks off. */
export interface Continuation {
  /** Called for every piece that the engine has sent; must be cheap. */
  keep(chunk: Uint8Array): void;
  /**
   * Where in `chunk` the frame begins in which the engine itself says that it has failed, or -1.
   * Called for every piece before `keep`; must be cheap.
   */
  failureAt(chunk: Uint8Array): number;
  /** Asked once, after a break: what goes on behind the last whole frame; null: nothing does. */
  goOn(): Promise<GoingOn | null>;
  /** The stream is over: lets go of what is kept, and of what is being tried. */
  stop(): void;
}

export interface RelayOptions {
  client: Pick<ClientStream, "write" | "end" | "fail" | "waitingSince">;
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
  /** Called for every piece; must be cheap. */
  onProgress: () => void;
  /** Whether more is to come of the engine, or the client is waited for. */
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
 * What an engine sends goes to the client at once; where the client is behind, the engine is asked
 * for no more, so that nothing piles up here. A stream of frames that breaks goes on elsewhere, once,
 * where `continuation` finds a replica; else it ends with an error frame and no `[DONE]`. Any other
 * body ends as a broken connection.
 */
export class Relay implements BodySink {
  readonly #options: RelayOptions;
  #continuation: Continuation | null;
  /** What the client got last. */
  #last: Uint8Array = NOTHING;
  #ended = false;
  #isReading = true;
  /** While another engine is looked for: what the one that has failed still says. */
  #held: (() => void)[] | null = null;
  /** Whether something has come since the last look at it, and when that was. */
  #hasMoved = true;
  #movedAt = 0;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#continuation = options.continuation ?? null;
  }

  data(chunk: Uint8Array): void {
    if (this.#ended) return;
    if (this.#held !== null) return void this.#held.push(() => this.data(chunk));
    this.#hasMoved = true;
    this.#options.onProgress();
    const failedAt = this.#continuation?.failureAt(chunk) ?? -1;
    if (failedAt === -1) this.#pass(chunk);
    else this.#failWithin(chunk, failedAt);
  }

  /** The engine's answer is complete. */
  end(): void {
    if (this.#ended) return;
    if (this.#held !== null) return void this.#held.push(() => this.end());
    const rest = this.#options.watch.flush();
    if (rest !== null) this.#options.client.write(rest);
    this.#close("ok");
    this.#options.client.end();
  }

  fail(error: unknown): void {
    if (this.#ended) return;
    if (this.#held !== null) return void this.#held.push(() => this.fail(error));
    const { watch } = this.#options;
    // Some engines drop the connection behind the last frame; nothing is missing then.
    const complete = watch.isComplete();
    if (this.#continuation && !complete && watch.isBetweenFrames) {
      void this.#resume(() => this.#break(error, complete));
    } else this.#break(error, complete);
  }

  /** The client has taken what waited for it. */
  drained(): void {
    this.#hasMoved = true;
    this.#read(true);
  }

  /** The client has left. */
  left(): void {
    this.#close("client_gone");
  }

  /** To be called now and then: looks for silence on either side. */
  check(now: number): void {
    const { format, keepAliveMs, slowClientMs, client } = this.#options;
    if (this.#ended) return;
    if (this.#hasMoved) {
      this.#hasMoved = false;
      this.#movedAt = now;
    }
    if (client.waitingSince !== null) {
      if (now - client.waitingSince < slowClientMs) return;
      this.#close("slow_client");
      client.fail(new Error("the client takes nothing"));
    } else if (
      format === "sse" &&
      now - this.#movedAt >= keepAliveMs &&
      endsFrame(this.#last, format)
    ) {
      this.#movedAt = now;
      client.write(KEEP_ALIVE);
    }
  }

  #pass(chunk: Uint8Array): void {
    this.#last = chunk;
    this.#continuation?.keep(chunk);
    const out = this.#options.watch.push(chunk);
    if (out !== null && !this.#options.client.write(out)) this.#read(false);
  }

  #read(isReading: boolean): void {
    if (isReading === this.#isReading || this.#ended) return;
    this.#isReading = isReading;
    this.#options.onReading(isReading);
  }

  #close(how: RelayEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.continuation?.stop();
    this.#options.onEnd(how);
  }

  #break(error: unknown, complete: boolean): void {
    const { format, watch, breakFrame, client } = this.#options;
    // Before the end is told: by whom it was broken off is known until then.
    const frame = complete || format === null ? "" : gapAfter(this.#last, format) + breakFrame();
    this.#close(complete ? "ok" : "broken");
    if (format === null) {
      client.fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    const rest = watch.flush();
    if (rest !== null) client.write(rest);
    if (frame !== "") client.write(encoder.encode(frame));
    client.end();
  }

  /** The engine reports in its stream that it has failed: the client gets that if no other goes on. */
  #failWithin(chunk: Uint8Array, at: number): void {
    if (at > 0) this.#pass(chunk.subarray(0, at));
    this.#read(false);
    void this.#resume(() => this.#pass(chunk.subarray(at)));
  }

  async #resume(otherwise: () => void): Promise<void> {
    const { client, watch } = this.#options;
    const continuation = this.#continuation;
    this.#continuation = null;
    const held: (() => void)[] = [];
    this.#held = held;
    const lastOfEngine = this.#last;
    // The client stands between two frames: comments may be sent to it meanwhile.
    this.#last = RESUMED;
    const next = (await continuation?.goOn()) ?? null;
    this.#held = null;
    if (this.#ended) return;
    if (next === null) {
      this.#last = lastOfEngine;
      otherwise();
      for (const say of held) say();
    } else {
      watch.cut();
      client.write(RESUMED);
      this.data(next.first);
      next.begin(this);
    }
    this.#isReading = client.waitingSince === null;
    if (!this.#ended) this.#options.onReading(this.#isReading);
  }
}

/** What must stand between a chunk and the next frame: the break may lie inside a frame. */
function gapAfter(chunk: Uint8Array, format: StreamFormat): string {
  if (endsFrame(chunk, format)) return "";
  const end = chunk[chunk.length - 1];
  if (format === "ndjson") return "\n";
  return end === LF || end === CR ? "\n" : "\n\n";
}
