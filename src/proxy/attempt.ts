/** One try of a request on one replica, until its answer can be passed on or has failed. */

import { LlmnodeError } from "../protocol/errors.ts";
import { readEngineError } from "./engine-error.ts";
import { engineErrorBody, errorFrame } from "./error-answer.ts";
import {
  type AttemptFailure,
  connectionFailure,
  type Outcome,
  refusesStreamOptions,
  statusFailure,
} from "./failure.ts";
import { endsFrame, formatOf, frameData, lastFrameEnd, type StreamFormat } from "./frames.ts";
import { requestHeaders, responseHeaders } from "./headers.ts";
import type { Lease } from "./lease.ts";
import type { BodyContent, Payload } from "./payload.ts";
import type { AttemptRecord } from "./record.ts";
import { type ChunkReader, relay } from "./relay.ts";
import type { Route } from "./routes.ts";
import { createStreamWatch, type StreamWatch } from "./stream-watch.ts";
import type { UpstreamRequest } from "./upstream.ts";
import { parse } from "./usage.ts";

export interface AttemptOptions {
  /** An answer of known length up to this is taken whole before the client gets any of it. */
  wholeAnswerBytes: number;
  /** How much of an engine's error is read. */
  errorBodyBytes: number;
  /** How much of a stream's end is kept for accounting. */
  tailBytes: number;
  keepAliveMs: number;
  slowClientMs: number;
}

export interface AttemptJob {
  request: Request;
  route: Route;
  path: string;
  requestId: string;
  payload: Payload;
  now: () => number;
  /** Engine runs that do not know `stream_options`. */
  refusesUsage: Set<string>;
  /** The engine's first data is here. */
  onFirstData: () => void;
  /** The answer that `answered` holds has been passed on, or its passing on has ended. */
  onEnd: (outcome: Outcome, watch: StreamWatch) => void;
}

export type Attempted =
  | { kind: "answer"; response: Response }
  | { kind: "failure"; failure: AttemptFailure }
  | { kind: "moved" };

/** Throws only `client_gone`; the lease is given back in every case, here or by the answer's end. */
export async function attempt(
  options: AttemptOptions,
  job: AttemptJob,
  hold: { lease: Lease; record: AttemptRecord },
): Promise<Attempted> {
  const { lease, record } = hold;
  const client = job.request.signal;
  const controller = new AbortController();
  let recall: "move" | "fail" | null = null;
  const abort = () => controller.abort();
  client.addEventListener("abort", abort);
  lease.onRecall = (kind) => {
    recall = kind;
    controller.abort();
  };
  const done = (outcome: Outcome) => {
    client.removeEventListener("abort", abort);
    lease.onRecall = null;
    record.outcome = outcome;
    record.endedAt = job.now();
    lease.release(outcome);
  };
  try {
    if (client.aborted) throw clientGone();
    const askUsage = job.payload.canAskUsage && !job.refusesUsage.has(lease.engineRun);
    const upstream = (content: BodyContent): UpstreamRequest => ({
      path: job.path,
      method: job.request.method,
      headers: requestHeaders(job.request.headers, {
        requestId: job.requestId,
        apiKey: lease.apiKey,
        contentType: job.payload.contentType,
      }),
      body: content,
      signal: controller.signal,
    });
    let response = await send(lease, upstream(job.payload.content({ askUsage })), job.payload);
    let failure = await failureOf(response, options, job.route);
    let asked = askUsage;
    if (failure && askUsage && refusesStreamOptions(failure)) {
      job.refusesUsage.add(lease.engineRun);
      asked = false;
      response = await send(lease, upstream(job.payload.content({ askUsage: false })), job.payload);
      failure = await failureOf(response, options, job.route);
    }
    record.status = response.status;
    if (failure) {
      done(failure.outcome);
      return { kind: "failure", failure };
    }
    return await answer({ options, job, lease, done, controller, response, dropUsage: asked });
  } catch (error) {
    if (client.aborted) {
      done("client_gone");
      controller.abort();
      throw clientGone();
    }
    if (recall === "move") {
      done("recalled");
      return { kind: "moved" };
    }
    const failure = connectionFailure(error);
    done(failure.outcome);
    return { kind: "failure", failure };
  }
}

/**
 * A reset before the headers is most often a pooled connection that the engine closed while idle,
 * and fetch does not tell: it is tried once more on a fresh connection.
 */
async function send(lease: Lease, request: UpstreamRequest, payload: Payload): Promise<Response> {
  try {
    return await lease.upstream(request);
  } catch (error) {
    const { outcome } = connectionFailure(error);
    if (request.signal.aborted || outcome !== "broken" || !payload.repeatable) throw error;
    return await lease.upstream({ ...request, fresh: true });
  }
}

async function failureOf(
  response: Response,
  options: AttemptOptions,
  route: Route,
): Promise<AttemptFailure | null> {
  if (response.status >= 200 && response.status < 300) return null;
  const bytes = await readSome(response, options.errorBodyBytes);
  return statusFailure(
    { status: response.status, headers: response.headers, bytes },
    route.dialect,
  );
}

interface Answering {
  options: AttemptOptions;
  job: AttemptJob;
  lease: Lease;
  done: (outcome: Outcome) => void;
  controller: AbortController;
  response: Response;
  dropUsage: boolean;
}

/** Waits for the first data, so that a failure before it can still be repaired elsewhere. */
async function answer(on: Answering): Promise<Attempted> {
  const { options, job, lease, response } = on;
  const format = formatOf(response.headers);
  const init = { status: response.status, headers: responseHeaders(response.headers, format) };
  const watch = createStreamWatch({
    format,
    dropUsage: on.dropUsage && format === "sse",
    tailBytes: options.tailBytes,
  });
  const whole = (bytes: Uint8Array<ArrayBuffer>): Attempted => {
    lease.started();
    job.onFirstData();
    watch.push(bytes);
    on.done("ok");
    job.onEnd("ok", watch);
    return { kind: "answer", response: new Response(bytes, init) };
  };
  const length = Number(response.headers.get("content-length") ?? Number.NaN);
  if (response.body === null || length <= options.wholeAnswerBytes) {
    return whole(new Uint8Array(await response.arrayBuffer()));
  }
  const reader: ChunkReader = response.body.getReader();
  const first = await readFirst(reader, format);
  if (first === null) {
    if (format !== null) throw new Error("the stream ended before its first frame");
    return whole(new Uint8Array());
  }
  const failure = format === null ? null : errorIn(first, { format, route: job.route });
  if (failure) {
    on.controller.abort();
    on.done(failure.outcome);
    return { kind: "failure", failure };
  }
  lease.started();
  job.onFirstData();
  const body = relay({
    reader,
    first,
    format,
    watch,
    keepAliveMs: options.keepAliveMs,
    slowClientMs: options.slowClientMs,
    breakFrame: () => errorFrame(brokenStream(), job.route.dialect),
    onProgress: lease.progress,
    onEnd: (end) => {
      const outcome = end === "broken" && job.request.signal.aborted ? "client_gone" : end;
      on.done(outcome);
      // Whatever the engine still does for this request is for nobody.
      if (end !== "ok") on.controller.abort();
      job.onEnd(outcome, watch);
    },
  });
  return { kind: "answer", response: new Response(body, init) };
}

/** How much is waited for when the first frame does not end. */
const MAX_FIRST_BYTES = 64 * 1024;

/** The first chunk, or of a stream as many as make a frame; null when there is none. */
async function readFirst(
  reader: ChunkReader,
  format: StreamFormat | null,
): Promise<Uint8Array | null> {
  let first: Uint8Array | null = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done || value === undefined) return first;
    first = first === null ? value : Buffer.concat([first, value]);
    if (format === null || endsFrame(first, format)) return first;
    if (first.length > MAX_FIRST_BYTES || lastFrameEnd(first, format) > 0) return first;
  }
}

const ERROR_KEY = Buffer.from('"error"');

/** A stream whose first frame is an error: the client can still be given a proper one. */
function errorIn(
  first: Uint8Array,
  { format, route }: { format: StreamFormat; route: Route },
): AttemptFailure | null {
  if (!Buffer.from(first.buffer, first.byteOffset, first.length).includes(ERROR_KEY)) return null;
  const [data] = frameData(new TextDecoder().decode(first), format);
  const value = parse(data ?? "");
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  const given = "error" in value ? value.error : null;
  const said = given === null || given === undefined ? null : readEngineError(value);
  if (!said) return null;
  const inside = typeof given === "object" && given !== null && "code" in given ? given.code : null;
  const status = typeof inside === "number" && inside >= 400 && inside < 600 ? inside : 500;
  return {
    outcome: status < 500 ? "rejected" : "engine_error",
    status,
    retry: status >= 500,
    message: said.message,
    respond: () =>
      new Response(engineErrorBody(route.dialect, said, status), {
        status,
        headers: { "content-type": "application/json" },
      }),
  };
}

async function readSome(response: Response, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

function brokenStream(): LlmnodeError {
  return new LlmnodeError("upstream_broken", "The engine died before its answer was complete.");
}

export function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client has gone.");
}
