/** Carries one client request to an engine and its answer back; tries elsewhere while it may. */

import { LlmnodeError } from "../protocol/errors.ts";
import { type BodyLimits, readBody, readFields } from "./body.ts";
import { type AttemptFailure, connectionFailure, type Outcome } from "./failure.ts";
import { isEventStream, requestHeaders, responseHeaders } from "./headers.ts";
import { type ChunkReader, relay } from "./relay.ts";
import type { Upstream, UpstreamRequest } from "./upstream.ts";

/** What a request needs; plain data. */
export interface Want {
  model: string;
  /** Engines that it has tried, by key. */
  exclude: readonly string[];
}

/** One request's hold on a replica. */
export interface Lease {
  /** The engine's key. */
  readonly engine: string;
  /** The worker's name, as clients may see it. */
  readonly worker: string;
  readonly upstream: Upstream;
  /** What the engine wants as bearer. */
  readonly apiKey: string | null;
  /** Set by the holder; called when the head takes the request away from this replica. */
  onRecall: ((kind: "move" | "fail") => void) | null;
  /** The engine's first byte is here. */
  started(): void;
  progress(): void;
  /** Gives the replica back; only the first call counts. */
  release(outcome: Outcome): void;
}

/** Throws LlmnodeError when there is none to be had. */
export type Acquire = (want: Want, signal: AbortSignal) => Promise<Lease>;

export interface ProxyOptions {
  acquire: Acquire;
  body: BodyLimits;
  /** Attempts that may fail at an engine; requests that the head moves do not count. */
  maxAttempts: number;
  /** An answer of known length up to this is taken whole before the client gets any of it. */
  wholeAnswerBytes: number;
  /** How much of an engine's error is kept to be passed on. */
  errorBodyBytes: number;
}

export const PROXY_DEFAULTS = {
  maxAttempts: 2,
  wholeAnswerBytes: 256 * 1024,
  errorBodyBytes: 64 * 1024,
};

export interface ProxyCall {
  /** The path at the engine, with its query. */
  path: string;
  requestId: string;
}

export type Proxy = (request: Request, call: ProxyCall) => Promise<Response>;

/** The returned function throws LlmnodeError for what never reached an engine. */
export function createProxy(options: ProxyOptions): Proxy {
  return async (request, call) => {
    const body = await readBody(request, options.body);
    try {
      const { model } = readFields(body.bytes);
      return await run(options, { request, call, model, bytes: body.bytes });
    } finally {
      // By now the answer has begun or there is none: nothing will be sent again.
      body.free();
    }
  };
}

interface Job {
  request: Request;
  call: ProxyCall;
  model: string;
  bytes: Uint8Array<ArrayBuffer>;
}

type Attempted = { response: Response } | { failure: AttemptFailure } | { moved: true };

async function run(options: ProxyOptions, job: Job): Promise<Response> {
  const client = job.request.signal;
  const exclude: string[] = [];
  let attempts = 0;
  let counted = 0;
  let failure: AttemptFailure | null = null;
  for (;;) {
    if (client.aborted) throw clientGone();
    let lease: Lease;
    try {
      lease = await options.acquire({ model: job.model, exclude }, client);
    } catch (error) {
      if (failure === null) throw error;
      return finish(failure, attempts);
    }
    attempts += 1;
    const result = await attempt(options, job, lease);
    if ("response" in result) {
      result.response.headers.set("x-llmnode-worker", lease.worker);
      result.response.headers.set("x-llmnode-attempts", String(attempts));
      return result.response;
    }
    exclude.push(lease.engine);
    if ("moved" in result) continue;
    failure = result.failure;
    counted += 1;
    if (counted >= options.maxAttempts) return finish(failure, attempts);
  }
}

function finish(failure: AttemptFailure, attempts: number): Response {
  const end = failure.respond();
  if (end instanceof LlmnodeError) throw end;
  end.headers.set("x-llmnode-attempts", String(attempts));
  return end;
}

/** One try on one replica. Throws only `client_gone`; the lease is given back in every case. */
async function attempt(options: ProxyOptions, job: Job, lease: Lease): Promise<Attempted> {
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
    lease.release(outcome);
  };
  const fail = (failure: AttemptFailure): Attempted => {
    done(failure.outcome);
    return { failure };
  };
  try {
    if (client.aborted) throw clientGone();
    const response = await send(lease, {
      path: job.call.path,
      method: job.request.method,
      headers: requestHeaders(job.request.headers, {
        requestId: job.call.requestId,
        apiKey: lease.apiKey,
      }),
      body: job.bytes,
      signal: controller.signal,
    });
    const refusal = await refusalOf(response, options.errorBodyBytes);
    if (refusal) return fail(refusal);
    return { response: await answer(response, { options, lease, done, controller, client }) };
  } catch (error) {
    if (client.aborted) {
      done("client_gone");
      controller.abort();
      throw clientGone();
    }
    if (recall === "move") {
      done("recalled");
      return { moved: true };
    }
    return fail(connectionFailure(error));
  }
}

/**
 * A reset before the headers is most often a pooled connection that the engine closed while idle,
 * and fetch does not tell: it is tried once more on a fresh connection.
 */
async function send(lease: Lease, request: UpstreamRequest): Promise<Response> {
  try {
    return await lease.upstream(request);
  } catch (error) {
    const failure = connectionFailure(error);
    if (request.signal.aborted || failure.outcome !== "broken") throw error;
    return await lease.upstream({ ...request, fresh: true });
  }
}

/** An answer that means: not here. Null for every answer that the client should get. */
async function refusalOf(response: Response, maxBytes: number): Promise<AttemptFailure | null> {
  const { status } = response;
  if (status < 500 && status !== 429 && status !== 401 && status !== 403) return null;
  const bytes = await readSome(response, maxBytes);
  if (status === 401 || status === 403) {
    const message = "The engine refused the key that its worker gave.";
    return { outcome: "engine_error", respond: () => new LlmnodeError("upstream_auth", message) };
  }
  const outcome = status === 429 || status === 503 ? "busy" : "engine_error";
  const headers = responseHeaders(response.headers);
  return { outcome, respond: () => new Response(bytes, { status, headers }) };
}

interface Answering {
  options: ProxyOptions;
  lease: Lease;
  done: (outcome: Outcome) => void;
  controller: AbortController;
  client: AbortSignal;
}

/** Waits for the first data, so that a failure before it can still be repaired elsewhere. */
async function answer(response: Response, on: Answering): Promise<Response> {
  const { status } = response;
  const init = { status, headers: responseHeaders(response.headers) };
  const outcome = status < 400 ? "ok" : "rejected";
  const length = lengthOf(response.headers);
  if (response.body === null || (length !== null && length <= on.options.wholeAnswerBytes)) {
    const bytes = await response.bytes();
    on.lease.started();
    on.done(outcome);
    return new Response(bytes, init);
  }
  const reader: ChunkReader = response.body.getReader();
  const eventStream = isEventStream(response.headers);
  const first = await reader.read();
  if (first.done || first.value === undefined) {
    if (eventStream) throw new Error("the stream ended before its first event");
    on.lease.started();
    on.done(outcome);
    return new Response(null, init);
  }
  on.lease.started();
  const body = relay({
    reader,
    first: first.value,
    eventStream,
    onProgress: on.lease.progress,
    onEnd: (end) => {
      if (end === "ok") return on.done(outcome);
      on.done(on.client.aborted ? "client_gone" : end);
      // Whatever the engine still does for this request is for nobody.
      on.controller.abort();
    },
  });
  return new Response(body, init);
}

function lengthOf(headers: Headers): number | null {
  const text = headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : null;
}

async function readSome(response: Response, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

function clientGone(): LlmnodeError {
  return new LlmnodeError("client_gone", "The client has gone.");
}
