/** One request to a server and its answer, on one connection, or on a second where the first was stale. */

import { AnswerReader, type AnswerEvents } from "./answer.ts";
import type { ReadHead } from "./answer-head.ts";
import type { ConnectionUser, HttpConnection } from "./connection.ts";
import type { AnswerSink, Exchange, HttpRequest } from "./exchange.ts";
import { coded } from "./failure.ts";
import type { Origin } from "./pool.ts";
import { faultOf, requestHead } from "./request-head.ts";
import { startUpload, type Upload } from "./upload.ts";

export interface SendingOptions {
  sink: AnswerSink;
  memory: Buffer;
}

export class Sending implements Exchange, ConnectionUser, AnswerEvents {
  readonly #origin: Origin;
  readonly #sink: AnswerSink;
  /** What is written at once is put together there. */
  readonly #memory: Buffer;
  /** Null once some of the answer has come: a large body is not to be held as long as that lasts. */
  #request: HttpRequest | null;
  #connection: HttpConnection | null = null;
  /** Null: nothing of the answer has come. */
  #reader: AnswerReader | null = null;
  #upload: Upload | null = null;
  /** A large body whose head is on its way. */
  #bodyNext: Uint8Array | null = null;
  #isOnKept = false;
  /** Why a kept connection did not bring the answer. */
  #firstFailure: Error | null = null;
  #isStarting = true;
  #isSent = false;
  #isOver = false;
  #isPaused = false;

  constructor(origin: Origin, request: HttpRequest, { sink, memory }: SendingOptions) {
    this.#origin = origin;
    this.#request = request;
    this.#sink = sink;
    this.#memory = memory;
    const fault = faultOf(request);
    if (fault !== null) {
      queueMicrotask(() => this.#fail(fault));
    } else {
      const kept = request.fresh ? null : origin.take(this);
      this.#isOnKept = kept !== null;
      this.#connection = kept ?? origin.open(this);
      if (kept !== null) this.onOpen();
    }
    this.#isStarting = false;
  }

  pause(): void {
    this.#isPaused = true;
    if (!this.#isOver) this.#connection?.pause();
  }

  resume(): void {
    this.#isPaused = false;
    if (!this.#isOver) this.#connection?.resume();
  }

  abort(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upload?.stop();
    this.#connection?.close();
  }

  onOpen(): void {
    const [connection, request] = [this.#connection, this.#request];
    if (connection === null || request === null) return;
    const { body, length } = request;
    const head = requestHead(request, this.#origin.host);
    const whole = body instanceof Uint8Array ? body : null;
    const bytes = head.length + (whole?.length ?? 0);
    let isTaken: boolean;
    if (bytes <= this.#memory.length) {
      this.#memory.write(head, 0, "latin1");
      if (whole !== null) this.#memory.set(whole, head.length);
      isTaken = connection.writeCopy(this.#memory, bytes);
    } else {
      this.#bodyNext = whole;
      isTaken = connection.write(Buffer.from(head, "latin1"));
    }
    if (body !== null && whole === null) {
      this.#upload = startUpload(body as ReadableStream<Uint8Array>, {
        length,
        connection,
        isFree: isTaken,
        onSent: () => void (this.#isSent = true),
        onFail: (error) => this.#fail(error),
      });
    } else if (isTaken) this.onDrain();
  }

  onDrain(): void {
    if (this.#upload !== null) return this.#upload.onDrain();
    const next = this.#bodyNext;
    this.#bodyNext = null;
    this.#isSent = next === null || this.#connection?.write(next) === true;
  }

  onData(bytes: Buffer): void {
    if (this.#isOver) return;
    if (this.#reader === null) {
      this.#reader = new AnswerReader(this.#request?.method ?? "", this);
      this.#request = null;
    }
    try {
      this.#reader.push(bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  onBreak(error: Error | null): void {
    // Nothing is told from within the call that sends.
    if (this.#isStarting) return queueMicrotask(() => this.onBreak(error));
    if (this.#isOver) return;
    if (this.#reader !== null) {
      if (error !== null) return this.#fail(error);
      try {
        this.#reader.finish();
      } catch (early) {
        this.#fail(early);
      }
      return;
    }
    const failure = error ?? coded("the connection broke before the answer came", "ECONNRESET");
    if (this.#connection?.isOpen !== true) return this.#fail(this.#firstFailure ?? failure);
    if (!this.#isOnKept || !isRepeatable(this.#request)) return this.#fail(failure);
    // The server may have closed what it found idle, just then.
    this.#firstFailure = failure;
    this.#isOnKept = false;
    this.#isSent = false;
    this.#connection = this.#origin.open(this);
    if (this.#isPaused) this.#connection.pause();
  }

  onHead(head: ReadHead): void {
    if (this.#isOver) return;
    try {
      this.#sink.head(head);
    } catch (fault) {
      this.#fail(fault);
    }
  }

  onBody(bytes: Uint8Array): void {
    if (this.#isOver) return;
    try {
      this.#sink.data(bytes);
    } catch (fault) {
      this.#fail(fault);
    }
  }

  onEnd(isReusable: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#upload?.stop();
    // A server that answers before it has all is not to get the rest as its next request.
    if (this.#connection !== null && isReusable && this.#isSent) {
      this.#origin.keep(this.#connection);
    } else {
      this.#connection?.close();
    }
    try {
      this.#sink.end();
    } catch (fault) {
      warn(fault);
    }
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.abort();
    try {
      this.#sink.fail(error);
    } catch (fault) {
      warn(fault);
    }
  }
}

function isRepeatable(request: HttpRequest | null): boolean {
  return request !== null && (request.body === null || request.body instanceof Uint8Array);
}

/** A taker that throws when it was told the end is a fault of the program, and of no use to anyone. */
function warn(fault: unknown): void {
  process.emitWarning(fault instanceof Error ? fault : String(fault));
}
