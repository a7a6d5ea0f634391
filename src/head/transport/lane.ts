/** One lane at the head: a request goes out on it, its answer comes back, then it is free again. */

import {
  encodeFrame,
  LANE_CREDIT_BYTES,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
  type ResponseHead,
} from "../../protocol/lane-frames.ts";
import type { UpstreamRequest } from "../../proxy/request/upstream.ts";
import { type ByteQueue, createByteQueue } from "../../util/flow/byte-queue.ts";
import { type Credit, createCredit } from "../../util/flow/credit.ts";

/** What the socket of a lane can do. */
export interface LaneSocket {
  /** False when the socket has refused the frame; then the lane must be closed. */
  send(bytes: Uint8Array<ArrayBuffer>): boolean;
  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void;
}

export interface LaneOptions {
  socket: LaneSocket;
  /** The lane can carry another request. */
  onParked: (lane: Lane) => void;
  /** Called once, for whatever reason. */
  onClosed: (lane: Lane) => void;
  /** How long the worker may take to say `done` after a cancel. */
  doneTimeoutMs: number;
}

/** Below this a frame of credit is not worth its cost. */
const CREDIT_STEP_BYTES = LANE_CREDIT_BYTES / 4;
const PIECE_BYTES = MAX_LANE_FRAME_BYTES / 2;

/** The request that the lane carries. */
interface Running {
  number: number;
  answer: PromiseWithResolvers<Response>;
  body: ByteQueue;
  /** For what is sent. */
  credit: Credit;
  /** What may still come without breaking the rules. */
  allowedBytes: number;
  answered: boolean;
  over: boolean;
}

export class Lane {
  state: "parked" | "busy" | "closed" = "parked";
  readonly #options: LaneOptions;
  #number = 0;
  #running: Running | null = null;
  #doneTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Sends a request; to be called while parked only. Rejects as fetch does. */
  run(request: UpstreamRequest, engine: string): Promise<Response> {
    this.state = "busy";
    this.#number += 1;
    const current = this.#start(this.#number);
    this.#running = current;
    const { signal } = request;
    const abort = () => this.#cancel(current, signal.reason);
    signal.addEventListener("abort", abort);
    void current.answer.promise
      .catch(() => null)
      .finally(() => {
        // After the head of the answer its body's reader says when it has had enough.
        if (current.over) signal.removeEventListener("abort", abort);
      });
    if (signal.aborted) {
      this.#cancel(current, signal.reason);
    } else if (
      this.#send({ kind: "request", number: current.number, head: headOf(request, engine) })
    ) {
      void this.#sendBody(current, request);
    }
    return current.answer.promise;
  }

  onFrame(frame: LaneFrame): void {
    const current = this.#running;
    if (!current || frame.number !== current.number) return;
    switch (frame.kind) {
      case "response":
        // A second answer would take the stream that the first one's reader holds.
        if (current.answered) return this.close("a second answer to one request");
        current.answered = true;
        if (!current.over) current.answer.resolve(responseOf(frame.head, current.body));
        break;
      case "body":
        current.allowedBytes -= frame.bytes.length;
        // More than was allowed could fill the memory: a worker that does that is not served.
        if (current.allowedBytes < 0) return this.close("a body beyond its credit");
        if (!current.over) current.body.push(frame.bytes.slice());
        break;
      case "end":
        if (current.answered) end(current, null);
        break;
      case "error":
        end(current, Object.assign(new Error(frame.error.message), { code: frame.error.code }));
        break;
      case "credit":
        current.credit.give(frame.count);
        break;
      case "done":
        end(current, new Error("the worker ended the request without an answer"));
        clearTimeout(this.#doneTimer);
        this.#running = null;
        this.state = "parked";
        this.#options.onParked(this);
        break;
      case "request":
      case "cancel":
        this.close(`a ${frame.kind} frame from a worker`);
    }
  }

  /** To be called when the socket has closed. */
  onClosed(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    clearTimeout(this.#doneTimer);
    const reset = Object.assign(new Error("the lane broke"), { code: "LANE_BROKEN" });
    if (this.#running) end(this.#running, reset);
    this.#running = null;
    this.#options.onClosed(this);
  }

  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void {
    this.#options.socket.close(fault);
    this.onClosed();
  }

  #start(number: number): Running {
    let owed = 0;
    const current: Running = {
      number,
      answer: Promise.withResolvers<Response>(),
      credit: createCredit(LANE_CREDIT_BYTES),
      allowedBytes: LANE_CREDIT_BYTES,
      answered: false,
      over: false,
      body: createByteQueue({
        onTaken: (bytes) => {
          owed += bytes;
          if (owed < CREDIT_STEP_BYTES || current.over) return;
          current.allowedBytes += owed;
          this.#send({ kind: "credit", number, count: owed });
          owed = 0;
        },
        onCancel: () => this.#cancel(current, new DOMException("cancelled", "AbortError")),
      }),
    };
    return current;
  }

  #cancel(current: Running, reason: unknown): void {
    if (current.over) return;
    end(current, reason);
    if (!this.#send({ kind: "cancel", number: current.number })) return;
    // Late bytes of this request must not meet the next one: no `done`, no lane.
    this.#doneTimer = setTimeout(() => this.close(), this.#options.doneTimeoutMs);
  }

  /** False when the lane is closed, or was for this. */
  #send(frame: LaneFrame): boolean {
    if (this.state === "closed") return false;
    if (this.#options.socket.send(encodeFrame(frame))) return true;
    this.close();
    return false;
  }

  async #sendBody(current: Running, { body }: UpstreamRequest): Promise<void> {
    try {
      if (body instanceof Uint8Array) await this.#sendBytes(current, body);
      else if (body !== null) {
        for await (const chunk of body) await this.#sendBytes(current, chunk);
      }
      if (!current.over) this.#send({ kind: "end", number: current.number });
    } catch (error) {
      this.#cancel(current, error);
    }
  }

  async #sendBytes(current: Running, bytes: Uint8Array): Promise<void> {
    let at = 0;
    while (at < bytes.length && !current.over) {
      const count = await current.credit.take(Math.min(PIECE_BYTES, bytes.length - at));
      if (count === 0) return;
      this.#send({ kind: "body", number: current.number, bytes: bytes.subarray(at, at + count) });
      at += count;
    }
  }
}

/** Ends the request for its caller; the lane still waits for `done`. Null: a good end. */
function end(current: Running, error: unknown): void {
  if (current.over) return;
  current.over = true;
  current.credit.close();
  if (error === null) {
    current.body.end();
    return;
  }
  current.answer.reject(error);
  current.body.fail(error);
}

function responseOf({ status, headers }: ResponseHead, body: ByteQueue): Response {
  return new Response(hasBody(status) ? body.stream : null, {
    status,
    headers: new Headers(headers),
  });
}

function headOf(request: UpstreamRequest, engine: string) {
  const { body } = request;
  return {
    engine,
    method: request.method,
    path: request.path,
    headers: [...request.headers],
    length: body === null ? 0 : body instanceof Uint8Array ? body.length : (request.length ?? null),
    fresh: request.fresh === true,
  };
}

/** Statuses whose answers have none (RFC 9110, 6.4.1). */
function hasBody(status: number): boolean {
  return status !== 204 && status !== 205 && status !== 304;
}
