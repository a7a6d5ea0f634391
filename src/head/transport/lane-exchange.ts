/** One request over a lane, from its wait for one to the end of its answer. */

import {
  LANE_CREDIT_BYTES,
  LANE_CREDIT_STEP_BYTES,
  LANE_PIECE_BYTES,
  type LaneFrame,
} from "../../protocol/lane-frames.ts";
import type { AnswerSink, Exchange, HttpRequest } from "../../util/http/exchange.ts";

/** Who has the request: the pool while it waits, then its lane. */
export interface ExchangeHolder {
  /** Nobody wants its answer any more. */
  abandoned(exchange: LaneExchange): void;
}

export interface ExchangeCarrier extends ExchangeHolder {
  send(frame: LaneFrame): void;
}

export type AnswerFrame = Extract<LaneFrame, { kind: "answer" | "body" }>;

/** The two of a stream's reader that both the platform's type and Bun's have. */
interface BodyReader {
  read(): Promise<{ value?: Uint8Array | undefined; done: boolean }>;
  cancel(): Promise<void>;
}

const NOTHING = new Uint8Array();

export class LaneExchange implements Exchange {
  /** By the clock of this process, while it waits. */
  readonly since = performance.now();
  readonly #engine: string;
  readonly #request: HttpRequest;
  readonly #sink: AnswerSink;
  #holder: ExchangeHolder | null = null;
  #lane: ExchangeCarrier | null = null;
  #number = 0;
  #isOver = false;
  // The answer
  #isAnswered = false;
  #isPaused = false;
  /** What may still come without breaking the rules. */
  #allowedBytes = LANE_CREDIT_BYTES;
  /** Passed on and not given back yet. */
  #owedBytes = 0;
  // The request's body
  #credit = LANE_CREDIT_BYTES;
  #rest: Uint8Array = NOTHING;
  #reader: BodyReader | null = null;
  #isReading = false;
  #sentBytes = 0;

  constructor(engine: string, request: HttpRequest, sink: AnswerSink) {
    this.#engine = engine;
    this.#request = request;
    this.#sink = sink;
  }

  /** Until `start`. */
  waitIn(holder: ExchangeHolder): void {
    this.#holder = holder;
  }

  start(lane: ExchangeCarrier, number: number): void {
    this.#holder = lane;
    this.#lane = lane;
    this.#number = number;
    const { body, method, path, host, fields, fresh } = this.#request;
    const isBytes = body instanceof Uint8Array;
    const bytes = !isBytes
      ? NOTHING
      : body.length <= LANE_PIECE_BYTES
        ? body
        : body.subarray(0, LANE_PIECE_BYTES);
    const length = body === null ? 0 : isBytes ? body.length : this.#request.length;
    const isLast = body === null || (isBytes && bytes.length === body.length);
    const head = { engine: this.#engine, method, path, host, fields, length, fresh };
    lane.send({ kind: "request", number, head, bytes, isLast });
    if (isLast) return;
    this.#credit -= bytes.length;
    if (isBytes) this.#rest = body.subarray(bytes.length);
    else this.#reader = body.getReader();
    this.#upload();
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#giveBack();
  }

  abort(): void {
    if (this.#isOver) return;
    this.#finish();
    this.#holder?.abandoned(this);
  }

  /** Ends the request for its sender; of a lane that has it, nothing more is heard. */
  fail(error: unknown): void {
    if (this.#isOver) return;
    this.#finish();
    this.#sink.fail(error);
  }

  /** The rule that a frame breaks; null: none. Counts what nobody wants any more as well. */
  faultOf({ kind, bytes }: AnswerFrame): string | null {
    if (kind === "answer" && this.#isAnswered) return "a second answer to one request";
    if (kind === "body" && !this.#isAnswered) return "a body before its answer";
    this.#isAnswered = true;
    // More than was allowed could fill the memory: a worker that does that is not served.
    this.#allowedBytes -= bytes.length;
    return this.#allowedBytes < 0 ? "a body beyond its credit" : null;
  }

  /** Passes an answer on; each call may end the request. */
  take(frame: AnswerFrame): void {
    if (this.#isOver) return;
    if (frame.kind === "answer") this.#sink.head(frame.head);
    if (frame.bytes.length > 0 && !this.#isOver) {
      this.#sink.data(frame.bytes);
      this.#owedBytes += frame.bytes.length;
    }
    if (this.#isOver) return;
    if (!frame.isLast) return this.#giveBack();
    this.#finish();
    this.#sink.end();
  }

  /** The worker has room for more of the body. */
  addCredit(bytes: number): void {
    this.#credit += bytes;
    this.#upload();
  }

  #giveBack(): void {
    const count = this.#owedBytes;
    if (this.#isPaused || this.#isOver || count < LANE_CREDIT_STEP_BYTES) return;
    this.#owedBytes = 0;
    this.#allowedBytes += count;
    this.#lane?.send({ kind: "credit", number: this.#number, count });
  }

  #finish(): void {
    this.#isOver = true;
    // It may be gone already.
    this.#reader?.cancel().catch(() => {});
  }

  /** Sends of the body what credit allows; what came and is not sent yet goes before more is read. */
  #upload(): void {
    while (this.#rest.length > 0 && this.#credit > 0 && !this.#isOver) {
      const count = Math.min(LANE_PIECE_BYTES, this.#credit, this.#rest.length);
      const bytes = this.#rest.subarray(0, count);
      this.#rest = this.#rest.subarray(count);
      this.#credit -= count;
      this.#sendBody(bytes, this.#reader === null && this.#rest.length === 0);
    }
    if (this.#reader === null || this.#isReading || this.#rest.length > 0 || this.#isOver) return;
    this.#isReading = true;
    this.#reader.read().then(
      ({ value }) => this.#onRead(value ?? null),
      (error: unknown) => this.#giveUp(error),
    );
  }

  #onRead(bytes: Uint8Array | null): void {
    this.#isReading = false;
    if (this.#isOver) return;
    const { length } = this.#request;
    this.#sentBytes += bytes?.length ?? 0;
    const isAmiss = bytes === null ? this.#sentBytes !== length : this.#sentBytes > (length ?? 0);
    if (length !== null && isAmiss) {
      return this.#giveUp(new Error(`a body of ${length} bytes was to be sent`));
    }
    if (bytes === null) {
      this.#reader = null;
      return this.#sendBody(NOTHING, true);
    }
    this.#rest = bytes;
    this.#upload();
  }

  #sendBody(bytes: Uint8Array, isLast: boolean): void {
    this.#lane?.send({ kind: "body", number: this.#number, bytes, isLast });
  }

  /** The body cannot be had. */
  #giveUp(error: unknown): void {
    if (this.#isOver) return;
    this.abort();
    this.#sink.fail(error);
  }
}
