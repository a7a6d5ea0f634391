/** One lane at the head: a request goes out on it, its answer comes back, then it is free again. */

import {
  encodeFrame,
  LANE_CREDIT_BYTES,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
} from "../../protocol/lane-frames.ts";
import type { UpstreamRequest } from "../../proxy/request/upstream.ts";
import { type ByteQueue, createByteQueue } from "../../util/byte-queue.ts";
import { type Credit, createCredit } from "../../util/credit.ts";

/** What the socket of a lane can do. */
export interface LaneSocket {
  /** False when the socket has refused the frame; then the lane must be closed. */
  send(bytes: Uint8Array<ArrayBuffer>): boolean;
  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void;
}

export interface Lane {
  readonly state: "parked" | "busy" | "closed";
  /** Sends a request; to be called while parked only. Rejects as fetch does. */
  run(request: UpstreamRequest, engine: string): Promise<Response>;
  take(frame: LaneFrame): void;
  /** The socket has closed. */
  closed(): void;
  /** `fault` says which rule the worker has broken, if that is why. */
  close(fault?: string): void;
}

export interface LaneOptions {
  socket: LaneSocket;
  /** The lane can carry another request. */
  onParked: (lane: Lane) => void;
  /** Called once, however it came. */
  onClosed: (lane: Lane) => void;
  /** How long the worker may take to say `done` after a cancel. */
  doneTimeoutMs: number;
}

/** Below this a frame of credit is not worth its cost. */
const CREDIT_STEP_BYTES = LANE_CREDIT_BYTES / 4;
const PIECE_BYTES = MAX_LANE_FRAME_BYTES / 2;

/** What became of the request that the lane carries. */
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
  cancel(reason: unknown): void;
}

export function createLane(options: LaneOptions): Lane {
  const { socket } = options;
  let state: Lane["state"] = "parked";
  let number = 0;
  let running: Running | null = null;
  let doneTimer: ReturnType<typeof setTimeout> | undefined;

  const send = (frame: LaneFrame): boolean => {
    if (state === "closed") return false;
    if (socket.send(encodeFrame(frame))) return true;
    lane.close();
    return false;
  };

  /** Ends the request as far as its asker is concerned; the lane waits for `done`. */
  const settle = (current: Running, error: unknown) => {
    if (current.over) return;
    current.over = true;
    current.credit.close();
    if (error === null) {
      current.body.end();
      return;
    }
    current.answer.reject(error);
    current.body.fail(error);
  };

  const lane: Lane = {
    get state() {
      return state;
    },
    run(request, engine) {
      state = "busy";
      number += 1;
      const current = start(number);
      running = current;
      const abort = () => current.cancel(request.signal.reason);
      request.signal.addEventListener("abort", abort);
      void current.answer.promise
        .catch(() => null)
        .finally(() => {
          // After the head of the answer its body's reader says when it has had enough.
          if (current.over) request.signal.removeEventListener("abort", abort);
        });
      if (request.signal.aborted) {
        current.cancel(request.signal.reason);
      } else if (send({ kind: "request", number, head: headOf(request, engine) })) {
        void sendBody(current, request);
      }
      return current.answer.promise;
    },
    take(frame) {
      if (!running || frame.number !== running.number) return;
      const current = running;
      switch (frame.kind) {
        case "response":
          // A second answer would take the stream that the first one's reader holds.
          if (current.answered) return lane.close("a second answer to one request");
          current.answered = true;
          if (current.over) break;
          current.answer.resolve(
            new Response(hasBody(frame.head.status) ? current.body.stream : null, {
              status: frame.head.status,
              headers: new Headers(frame.head.headers),
            }),
          );
          break;
        case "body":
          current.allowedBytes -= frame.bytes.length;
          // More than was allowed could fill the memory: a worker that does that is not served.
          if (current.allowedBytes < 0) return lane.close("a body beyond its credit");
          if (!current.over) current.body.push(frame.bytes.slice());
          break;
        case "end":
          if (current.answered) settle(current, null);
          break;
        case "error":
          settle(
            current,
            Object.assign(new Error(frame.error.message), { code: frame.error.code }),
          );
          break;
        case "credit":
          current.credit.give(frame.count);
          break;
        case "done":
          settle(current, new Error("the worker ended the request without an answer"));
          clearTimeout(doneTimer);
          running = null;
          state = "parked";
          options.onParked(lane);
          break;
        case "request":
        case "cancel":
          lane.close(`a ${frame.kind} frame from a worker`);
      }
    },
    closed() {
      if (state === "closed") return;
      state = "closed";
      clearTimeout(doneTimer);
      const reset = Object.assign(new Error("the lane broke"), { code: "LANE_BROKEN" });
      if (running) settle(running, reset);
      running = null;
      options.onClosed(lane);
    },
    close(fault) {
      socket.close(fault);
      lane.closed();
    },
  };

  const start = (own: number): Running => {
    let owed = 0;
    const current: Running = {
      number: own,
      answer: Promise.withResolvers<Response>(),
      credit: createCredit(LANE_CREDIT_BYTES),
      allowedBytes: LANE_CREDIT_BYTES,
      answered: false,
      over: false,
      body: createByteQueue({
        onTaken(bytes) {
          owed += bytes;
          if (owed < CREDIT_STEP_BYTES || current.over) return;
          current.allowedBytes += owed;
          send({ kind: "credit", number: own, count: owed });
          owed = 0;
        },
        onCancel: () => current.cancel(new DOMException("cancelled", "AbortError")),
      }),
      cancel(reason) {
        if (current.over) return;
        settle(current, reason);
        if (!send({ kind: "cancel", number: own })) return;
        // Late bytes of this request must not meet the next one: no `done`, no lane.
        doneTimer = setTimeout(() => lane.close(), options.doneTimeoutMs);
      },
    };
    return current;
  };

  const sendBody = async (current: Running, { body }: UpstreamRequest) => {
    const own = current.number;
    try {
      if (body instanceof Uint8Array) await sendBytes(current, body);
      else if (body !== null) for await (const chunk of body) await sendBytes(current, chunk);
      if (!current.over) send({ kind: "end", number: own });
    } catch (error) {
      current.cancel(error);
    }
  };

  const sendBytes = async (current: Running, bytes: Uint8Array) => {
    let at = 0;
    while (at < bytes.length && !current.over) {
      const count = await current.credit.take(Math.min(PIECE_BYTES, bytes.length - at));
      if (count === 0) return;
      send({ kind: "body", number: current.number, bytes: bytes.subarray(at, at + count) });
      at += count;
    }
  };
  return lane;
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
