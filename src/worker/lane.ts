/** One lane at the worker: takes a request of the head, asks the engine, sends the answer back. */

import {
  encodeFrame,
  LANE_CREDIT_BYTES,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
  type RequestHead,
} from "../protocol/lane-frames.ts";
import { messageOf, systemCode } from "../protocol/errors.ts";
import { type ByteQueue, createByteQueue } from "../util/byte-queue.ts";
import { type Credit, createCredit } from "../util/credit.ts";
import { createNotifier } from "../util/notifier.ts";

/** Where a request of the head goes: null when there is no such engine, or it has no address yet. */
export interface EngineTarget {
  url: string;
  /** What the engine wants as bearer. */
  apiKey: string | null;
}

export interface WorkerLaneOptions {
  send: (bytes: Uint8Array<ArrayBuffer>) => void;
  /** A frame that breaks the rules, and which: the lane cannot go on. */
  close: (fault: string) => void;
  engine: (number: string) => EngineTarget | null;
}

export interface WorkerLane {
  readonly busy: boolean;
  take(frame: LaneFrame): void;
  /** The socket has closed: whatever runs is cancelled. */
  closed(): void;
}

const CREDIT_STEP_BYTES = LANE_CREDIT_BYTES / 4;
/** A body of known length up to this is taken whole, so that it can be sent twice. */
const WHOLE_BODY_BYTES = 1024 * 1024;
/** How much of an answer may wait here for credit, on top of what is under way. */
const MAX_PENDING_BYTES = 64 * 1024;
const PIECE_BYTES = MAX_LANE_FRAME_BYTES / 2;

interface Serving {
  number: number;
  abort: AbortController;
  body: ByteQueue;
  credit: Credit;
  allowedBytes: number;
  /** Of the announced length; a whole body is held, so that it must not be longer. */
  missingBytes: number;
}

export function createWorkerLane(options: WorkerLaneOptions): WorkerLane {
  let serving: Serving | null = null;
  let last = 0;
  let gone = false;

  const send = (frame: LaneFrame) => options.send(encodeFrame(frame));

  /** What is still on its way of a lane that broke the rules is served no more. */
  const breach = (fault: string) => {
    gone = true;
    if (serving) stop(serving, "the lane broke");
    options.close(fault);
  };

  const begin = (number: number, length: number | null): Serving => {
    let owed = 0;
    const current: Serving = {
      number,
      abort: new AbortController(),
      credit: createCredit(LANE_CREDIT_BYTES),
      allowedBytes: LANE_CREDIT_BYTES,
      missingBytes: length ?? Number.POSITIVE_INFINITY,
      body: createByteQueue({
        onTaken(bytes) {
          owed += bytes;
          if (owed < CREDIT_STEP_BYTES) return;
          current.allowedBytes += owed;
          send({ kind: "credit", number, count: owed });
          owed = 0;
        },
        onCancel() {},
      }),
    };
    return current;
  };

  const serve = async (current: Serving, head: RequestHead) => {
    const { number, abort, credit } = current;
    try {
      const target = options.engine(head.engine);
      if (!target)
        throw Object.assign(new Error("the engine is not there"), { code: "ECONNREFUSED" });
      const response = await ask(current, head, target);
      send({
        kind: "response",
        number,
        head: { status: response.status, headers: [...response.headers] },
      });
      if (response.body) await pass(current, response.body.getReader());
      if (!abort.signal.aborted) send({ kind: "end", number });
    } catch (error) {
      if (!abort.signal.aborted) {
        const code = systemCode(error) ?? "ECONNRESET";
        send({ kind: "error", number, error: { code, message: messageOf(error).slice(0, 500) } });
      }
      abort.abort();
    }
    credit.close();
    if (serving === current) serving = null;
    send({ kind: "done", number });
  };

  /** Sends the answer's body as credit allows; what comes meanwhile goes along in one frame. */
  const pass = async (
    current: Serving,
    reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
  ) => {
    const signal = current.abort.signal;
    const pending: Uint8Array[] = [];
    let pendingBytes = 0;
    let ended = false;
    let failure: unknown = null;
    const changed = createNotifier();
    signal.addEventListener("abort", changed.notify);
    const read = async () => {
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done || value === undefined) break;
          pending.push(value);
          pendingBytes += value.length;
          changed.notify();
          while (pendingBytes >= MAX_PENDING_BYTES && !signal.aborted) await changed.wait();
        }
      } catch (error) {
        failure = error;
      }
      ended = true;
      changed.notify();
    };
    const reading = read();
    while (!signal.aborted) {
      if (pendingBytes === 0) {
        if (ended) break;
        await changed.wait();
        continue;
      }
      const count = await current.credit.take(Math.min(PIECE_BYTES, pendingBytes));
      if (count === 0) break;
      // More may have come while credit was waited for: it goes along as far as the credit goes.
      const bytes = Buffer.concat(pending.splice(0));
      send({ kind: "body", number: current.number, bytes: bytes.subarray(0, count) });
      if (count < bytes.length) pending.push(bytes.subarray(count));
      pendingBytes -= count;
      changed.notify();
    }
    await reading;
    if (failure !== null) throw failure;
  };

  return {
    get busy() {
      return serving !== null;
    },
    take(frame) {
      if (frame.kind === "request") {
        if (gone) return;
        if (serving || frame.number <= last) return breach("a request out of turn");
        last = frame.number;
        serving = begin(frame.number, frame.head.length);
        void serve(serving, frame.head);
        return;
      }
      if (!serving || frame.number !== serving.number) return;
      switch (frame.kind) {
        case "body":
          serving.allowedBytes -= frame.bytes.length;
          if (serving.allowedBytes < 0) return breach("a body beyond its credit");
          serving.missingBytes -= frame.bytes.length;
          if (serving.missingBytes < 0) return breach("a body longer than announced");
          serving.body.push(frame.bytes.slice());
          break;
        case "end":
          serving.body.end();
          break;
        case "credit":
          serving.credit.give(frame.count);
          break;
        case "cancel":
          stop(serving, "cancelled");
          break;
        default:
          breach(`a ${frame.kind} frame from a head`);
      }
    },
    closed() {
      gone = true;
      if (serving) stop(serving, "the lane broke");
    },
  };
}

function stop(serving: Serving, why: string): void {
  serving.abort.abort();
  serving.credit.close();
  serving.body.fail(new Error(why));
}

async function ask(current: Serving, head: RequestHead, target: EngineTarget): Promise<Response> {
  const headers = new Headers(head.headers);
  headers.delete("host");
  if (target.apiKey !== null) headers.set("authorization", `Bearer ${target.apiKey}`);
  const whole = head.length !== null && head.length <= WHOLE_BODY_BYTES;
  const body =
    head.length === 0
      ? null
      : whole
        ? new Uint8Array(await new Response(current.body.stream).arrayBuffer())
        : current.body.stream;
  return await fetch(`${target.url}${head.path}`, {
    method: head.method,
    headers,
    body,
    signal: current.abort.signal,
    redirect: "manual",
    decompress: false,
    timeout: false,
    proxy: false,
    keepalive: !head.fresh,
    tls: { rejectUnauthorized: false },
  } as RequestInit & BunFetchRequestInit);
}
