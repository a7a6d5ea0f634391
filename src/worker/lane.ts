/** One lane at the worker: takes a request of the head, asks the engine, sends the answer back. */

import {
  LANE_CREDIT_BYTES,
  LANE_CREDIT_STEP_BYTES,
  LANE_PIECE_BYTES,
  type LaneFrame,
  MAX_LANE_HEAD_CHARS,
  type RequestHead,
  writeFrame,
} from "../protocol/lane-frames.ts";
import { messageOf, systemCode } from "../protocol/errors.ts";
import { ByteQueue } from "../util/flow/byte-queue.ts";
import type { AnswerHead, AnswerSink, Exchange, Upstream } from "../util/http/exchange.ts";

/** Where a request of the head goes. */
export interface LaneTarget {
  upstream: Upstream;
  /** What the engine wants as bearer. */
  apiKey: string | null;
}

export interface WorkerLaneOptions {
  /** Copies what it sends. */
  send: (bytes: Uint8Array<ArrayBuffer>) => void;
  /** A frame that breaks the rules, and which: the lane cannot go on. */
  close: (fault: string) => void;
  /** Null when there is no such engine, or it has no address yet. */
  target: (engine: string) => LaneTarget | null;
}

export interface WorkerLane {
  readonly busy: boolean;
  take(frame: LaneFrame): void;
  /** The socket has closed: whatever runs is cancelled. */
  closed(): void;
}

type RequestFrame = Extract<LaneFrame, { kind: "request" }>;

export function createWorkerLane(options: WorkerLaneOptions): WorkerLane {
  let serving: Serving | null = null;
  let last = 0;
  let gone = false;

  const send = (frame: LaneFrame) => options.send(writeFrame(frame));
  const onOver = () => {
    serving = null;
  };

  /** What is still on its way of a lane that broke the rules is served no more. */
  const leave = () => {
    gone = true;
    serving?.stop("the lane broke");
    serving = null;
  };
  const breach = (fault: string) => {
    leave();
    options.close(fault);
  };

  const begin = (frame: RequestFrame) => {
    const { number, head, bytes, isLast } = frame;
    if (gone) return;
    if (serving !== null || number <= last) return breach("a request out of turn");
    last = number;
    const { length } = head;
    if (length !== null && (bytes.length > length || (isLast && bytes.length < length))) {
      return breach("a body that is not as long as announced");
    }
    serving = new Serving(number, send, onOver);
    serving.start(frame, options.target(head.engine));
  };

  return {
    get busy() {
      return serving !== null;
    },
    take(frame) {
      if (frame.kind === "request") return begin(frame);
      if (serving === null || frame.number !== serving.number) return;
      switch (frame.kind) {
        case "body": {
          const fault = serving.takeBody(frame.bytes, frame.isLast);
          if (fault !== null) breach(fault);
          break;
        }
        case "credit":
          serving.addCredit(frame.count);
          break;
        case "cancel": {
          const { number } = serving;
          serving.stop("cancelled");
          serving = null;
          send({ kind: "done", number });
          break;
        }
        default:
          breach(`a frame that only workers send: ${frame.kind}`);
      }
    },
    closed: leave,
  };
}

const NOTHING = new Uint8Array();

/** A request at its engine, until its last frame has gone out. */
class Serving implements AnswerSink {
  readonly number: number;
  readonly #send: (frame: LaneFrame) => void;
  readonly #onOver: () => void;
  #exchange: Exchange | null = null;
  #isOver = false;
  /** Of a body that comes in more than one frame. */
  #upload: ByteQueue | null = null;
  #allowedBytes = LANE_CREDIT_BYTES;
  /** Of the announced length. */
  #missingBytes = Number.POSITIVE_INFINITY;
  // The answer: what has come of it and is not sent yet
  #head: AnswerHead | null = null;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isEnded = false;
  #failure: { error: unknown } | null = null;
  #credit = LANE_CREDIT_BYTES;
  #isPaused = false;
  #isFlushing = false;
  readonly #flushNow = () => {
    this.#isFlushing = false;
    this.#flush();
  };

  constructor(number: number, send: (frame: LaneFrame) => void, onOver: () => void) {
    this.number = number;
    this.#send = send;
    this.#onOver = onOver;
  }

  start({ head, bytes, isLast }: RequestFrame, target: LaneTarget | null): void {
    if (target === null) {
      return this.fail(
        Object.assign(new Error("the engine is not there"), { code: "ECONNREFUSED" }),
      );
    }
    const { method, path, host, length, fresh } = head;
    if (!isLast) {
      this.#upload = this.#openUpload();
      if (length !== null) this.#missingBytes = length;
      this.takeBody(bytes, false);
    }
    const body = this.#upload?.stream ?? (bytes.length > 0 ? ownBytes(bytes) : null);
    const request = { method, path, host, fields: fieldsOf(head, target), body, length, fresh };
    this.#exchange = target.upstream(request, this);
  }

  /** The rule that it breaks; null: none. */
  takeBody(bytes: Uint8Array, isLast: boolean): string | null {
    if (this.#upload === null) return "a body after its end";
    this.#allowedBytes -= bytes.length;
    if (this.#allowedBytes < 0) return "a body beyond its credit";
    this.#missingBytes -= bytes.length;
    if (this.#missingBytes < 0) return "a body longer than announced";
    this.#upload.push(bytes);
    if (isLast) {
      this.#upload.end();
      this.#upload = null;
    }
    return null;
  }

  addCredit(bytes: number): void {
    this.#credit += bytes;
    this.#flush();
  }

  /** Nobody waits for the answer any more. */
  stop(why: string): void {
    this.#isOver = true;
    this.#exchange?.abort();
    this.#upload?.fail(new Error(why));
  }

  head(head: AnswerHead): void {
    let chars = 0;
    for (const [name, value] of head.fields) chars += name.length + value.length + 6;
    if (chars > MAX_LANE_HEAD_CHARS) {
      const error = new Error("the head of its answer is too long for a lane");
      this.#exchange?.abort();
      return this.fail(Object.assign(error, { code: "EPROTO" }));
    }
    this.#head = head;
    this.#flushSoon();
  }

  data(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#flushSoon();
  }

  end(): void {
    this.#isEnded = true;
    this.#flush();
  }

  fail(error: unknown): void {
    this.#failure = { error };
    this.#flush();
  }

  #openUpload(): ByteQueue {
    return new ByteQueue({
      heldBytes: LANE_CREDIT_BYTES / 2,
      stepBytes: LANE_CREDIT_STEP_BYTES,
      onTaken: (count) => {
        this.#allowedBytes += count;
        this.#send({ kind: "credit", number: this.number, count });
      },
    });
  }

  /** What one read of the engine's socket brings goes in one frame, whatever it is cut into. */
  #flushSoon(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    queueMicrotask(this.#flushNow);
  }

  #flush(): void {
    while (!this.#isOver && (this.#head !== null || this.#waitingBytes > 0 || this.#isEnded)) {
      const count = Math.min(this.#waitingBytes, this.#credit, LANE_PIECE_BYTES);
      if (count === 0 && this.#waitingBytes > 0) return this.#pause();
      const isLast = this.#isEnded && count === this.#waitingBytes;
      const head = this.#head;
      this.#head = null;
      this.#credit -= count;
      // Before it is sent: the next request may come of it.
      if (isLast) this.#over();
      const { number } = this;
      const bytes = this.#take(count);
      this.#send(
        head === null
          ? { kind: "body", number, bytes, isLast }
          : { kind: "answer", number, head, bytes, isLast },
      );
    }
    if (this.#failure !== null && !this.#isOver) this.#sendFailure(this.#failure.error);
    if (this.#isPaused && !this.#isOver) {
      this.#isPaused = false;
      this.#exchange?.resume();
    }
  }

  #sendFailure(error: unknown): void {
    this.#over();
    const code = systemCode(error) ?? "ECONNRESET";
    const message = messageOf(error).slice(0, 500);
    this.#send({ kind: "error", number: this.number, error: { code, message } });
  }

  #over(): void {
    this.#isOver = true;
    this.#upload?.fail(new Error("the request is over"));
    this.#onOver();
  }

  #take(count: number): Uint8Array {
    const [first = NOTHING] = this.#waiting;
    const all = this.#waiting.length > 1 ? Buffer.concat(this.#waiting) : first;
    this.#waiting = count < all.length ? [all.subarray(count)] : [];
    this.#waitingBytes -= count;
    return count < all.length ? all.subarray(0, count) : all;
  }

  /** Without credit the engine is read no further. */
  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#exchange?.pause();
  }
}

/** The worker answers for its engine: where that wants a key, the client's is left out. */
function fieldsOf({ fields }: RequestHead, { apiKey }: LaneTarget): string {
  if (apiKey === null) return fields;
  return `${fields.replace(/^authorization:.*\r\n/gim, "")}authorization: Bearer ${apiKey}\r\n`;
}

/** A message's memory is never shared. */
function ownBytes(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
