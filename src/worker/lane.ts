/** One lane at the worker: takes a request of the head, asks the engine, sends the answer back. */

import { WORKER_TARGET } from "../protocol/engine-log.ts";
import {
  encodeFrame,
  LANE_CREDIT_BYTES,
  type LaneFrame,
  MAX_LANE_FRAME_BYTES,
  type RequestHead,
} from "../protocol/lane-frames.ts";
import { messageOf, systemCode } from "../protocol/errors.ts";
import { type ByteQueue, createByteQueue } from "../util/flow/byte-queue.ts";
import { type Credit, createCredit } from "../util/flow/credit.ts";
import type { AnswerBody } from "../util/http/body.ts";
import type { HttpAnswer, HttpClient } from "../util/http/client.ts";
import type { LogService, OwnAnswer } from "./logs.ts";

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
  /** Answers what is for the worker itself. */
  logService?: LogService;
  /** Shared by the lanes of a worker. */
  http: HttpClient;
}

export interface WorkerLane {
  readonly busy: boolean;
  take(frame: LaneFrame): void;
  /** The socket has closed: whatever runs is cancelled. */
  closed(): void;
}

const CREDIT_STEP_BYTES = LANE_CREDIT_BYTES / 4;
/** A body of known length up to this is sent in one piece. */
const WHOLE_BODY_BYTES = 64 * 1024;
const PIECE_BYTES = MAX_LANE_FRAME_BYTES / 4;

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

  const serve = async (current: Serving, head: RequestHead) => {
    const { number, abort, credit } = current;
    try {
      const { status, headers, body } = await answer(options, { current, head });
      send({ kind: "response", number, head: { status, headers } });
      await sendBody(current, body, send);
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

  return {
    get busy() {
      return serving !== null;
    },
    take(frame) {
      if (frame.kind === "request") {
        if (gone) return;
        if (serving || frame.number <= last) return breach("a request out of turn");
        last = frame.number;
        serving = openServing(frame.number, frame.head.length, send);
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

/** A body is credited as the engine takes it. */
function openServing(
  number: number,
  length: number | null,
  send: (frame: LaneFrame) => void,
): Serving {
  let owed = 0;
  const serving: Serving = {
    number,
    abort: new AbortController(),
    credit: createCredit(LANE_CREDIT_BYTES),
    allowedBytes: LANE_CREDIT_BYTES,
    missingBytes: length ?? Number.POSITIVE_INFINITY,
    body: createByteQueue({
      onTaken(bytes) {
        owed += bytes;
        if (owed < CREDIT_STEP_BYTES) return;
        serving.allowedBytes += owed;
        send({ kind: "credit", number, count: owed });
        owed = 0;
      },
      onCancel() {},
    }),
  };
  return serving;
}

async function answer(
  options: WorkerLaneOptions,
  { current, head }: { current: Serving; head: RequestHead },
): Promise<OwnAnswer> {
  const isForWorker = head.engine === WORKER_TARGET;
  if (isForWorker && options.logService) {
    return await options.logService(head, current.abort.signal);
  }
  const target = isForWorker ? null : options.engine(head.engine);
  if (!target) throw Object.assign(new Error("the engine is not there"), { code: "ECONNREFUSED" });
  return await ask(options.http, { current, head, target });
}

/** Sends the answer's body as credit allows; what comes meanwhile goes along in one frame. */
async function sendBody(
  { number, credit }: Serving,
  body: AnswerBody,
  send: (frame: LaneFrame) => void,
): Promise<void> {
  for (;;) {
    const waitingBytes = await body.ready();
    if (waitingBytes === 0) return;
    if (credit.available === 0) body.compact();
    const count = await credit.take(Math.min(PIECE_BYTES, waitingBytes));
    if (count === 0) return;
    send({ kind: "body", number, bytes: body.take(count) });
  }
}

function stop(serving: Serving, why: string): void {
  serving.abort.abort();
  serving.credit.close();
  serving.body.fail(new Error(why));
}

async function ask(
  http: HttpClient,
  { current, head, target }: { current: Serving; head: RequestHead; target: EngineTarget },
): Promise<HttpAnswer> {
  const { apiKey } = target;
  const headers = head.headers.filter(
    ([name]) => apiKey === null || name.toLowerCase() !== "authorization",
  );
  if (apiKey !== null) headers.push(["authorization", `Bearer ${apiKey}`]);
  const isSmall = head.length !== null && head.length <= WHOLE_BODY_BYTES;
  const { stream } = current.body;
  const body =
    head.length === 0
      ? null
      : isSmall
        ? new Uint8Array(await new Response(stream).arrayBuffer())
        : stream;
  return await http.send({
    // Parsed, so that a path cannot end the request's line and begin another.
    url: new URL(`${target.url}${head.path}`),
    method: head.method,
    headers,
    body,
    length: head.length,
    fresh: head.fresh,
    signal: current.abort.signal,
  });
}
