/** Carries one client request to an engine and its answer back; tries elsewhere while it may. */

import { LlmnodeError } from "../protocol/errors.ts";
import { type AttemptJob, type AttemptOptions, attempt } from "./attempt.ts";
import type { BodyLimits } from "./body.ts";
import type { AttemptFailure } from "./failure.ts";
import { clientGone } from "./hold.ts";
import type { Acquire, Lease, Want } from "./lease.ts";
import { type Payload, readPayload } from "./payload.ts";
import type { RequestRecord } from "./record.ts";
import {
  type End,
  finisher,
  MAX_LOGGED_BYTES,
  type RecordingOptions,
  refusal,
  startAttempt,
  startRecord,
  withInfo,
} from "./recording.ts";
import { OPEN_KINDS, type Route } from "./routes.ts";
import { withKeepAlive } from "./silence.ts";

export interface ProxyOptions extends AttemptOptions, RecordingOptions {
  acquire: Acquire;
  body: BodyLimits;
  /** Attempts that may fail at an engine; requests that the head moves do not count. */
  maxAttempts: number;
  /** Silence before the engine's first data after which a stream's client gets a comment. */
  firstKeepAliveMs: number;
  /** Whether records carry what was asked and answered. */
  logBodies: boolean;
}

export const PROXY_DEFAULTS = {
  maxAttempts: 2,
  wholeAnswerBytes: 256 * 1024,
  errorBodyBytes: 64 * 1024,
  tailBytes: 64 * 1024,
  firstKeepAliveMs: 50_000,
  keepAliveMs: 15_000,
  slowClientMs: 60_000,
  totalTimeoutMs: null as number | null,
  infoHeaders: true,
  logBodies: false,
  traced: false,
};

export interface ProxyCall {
  route: Route;
  /** The path at the engine, with its query. */
  path: string;
  requestId: string;
  clientAddress: string;
  /** A worker that the client insists on. */
  worker: string | null;
  /** Takes what should not have happened, and gives what the client is told instead. */
  onBug: (error: unknown) => LlmnodeError;
  /** Called once, when the answer has been passed on or there will be none. */
  onEnd: () => void;
}

/** Never throws: every failure is an answer in the route's dialect. */
export type Proxy = (request: Request, call: ProxyCall) => Promise<Response>;

export function createProxy(options: ProxyOptions): Proxy {
  const refusesUsage = new Set<string>();
  return async (request, call) => {
    const record = startRecord(options, request, call);
    const end = finisher(options, { record, onEnd: call.onEnd });
    let payload: Payload;
    try {
      payload = await readPayload(request, call.route, options.body);
    } catch (error) {
      return refusal(error, { call, end });
    }
    record.model = payload.model;
    record.stream = payload.stream;
    record.bytesIn = payload.length;
    record.bodyMs = payload.waitedMs;
    if (options.logBodies) record.bodies = { request: beginningOf(payload), answer: "" };
    // Runs of engines that have long ended may stay in the set: it is cleared when it grows.
    if (refusesUsage.size > 1000) refusesUsage.clear();
    const answering = run(options, { request, call, payload, record, end, refusesUsage })
      .catch((error: unknown) => refusal(error, { call, end }))
      // By now the answer has begun or there is none: nothing will be sent again.
      .finally(payload.free);
    const sse = payload.stream && call.route.dialect !== "ollama";
    return sse
      ? await withKeepAlive(answering, { ...options, dialect: call.route.dialect })
      : await answering;
  };
}

interface Job {
  request: Request;
  call: ProxyCall;
  payload: Payload;
  record: RequestRecord;
  end: End;
  refusesUsage: Set<string>;
}

async function run(options: ProxyOptions, job: Job): Promise<Response> {
  const { request, call, payload, record } = job;
  const client = request.signal;
  const exclude: string[] = [];
  let counted = 0;
  let failure: AttemptFailure | null = null;
  for (;;) {
    if (client.aborted) throw clientGone();
    let lease: Lease;
    const askedAt = options.now();
    try {
      lease = await options.acquire(wantOf(call, payload, exclude), client);
      record.modelKnown = true;
    } catch (error) {
      if (failure === null) throw error;
      return finish(options, job, failure);
    } finally {
      record.queueMs += options.now() - askedAt;
    }
    const tried = startAttempt(options, { lease, trace: record.trace });
    record.attempts.push(tried);
    const result = await attempt(options, attemptJob(options, job), { lease, record: tried });
    if (result.kind === "answer") return withInfo(options, record, result.response);
    exclude.push(lease.engine);
    if (result.kind === "moved") continue;
    failure = result.failure;
    counted += 1;
    const again = failure.retry && payload.repeatable && counted < options.maxAttempts;
    if (!again) return finish(options, job, failure);
  }
}

function attemptJob(options: ProxyOptions, job: Job): AttemptJob {
  const { record, end, call } = job;
  return {
    ...job,
    route: call.route,
    path: call.path,
    requestId: call.requestId,
    startedAt: record.startedAt,
    now: options.now,
    trace: record.trace,
    onFirstData() {
      const now = options.now();
      record.firstByteMs = now - record.startedAt;
      const tried = record.attempts.at(-1);
      if (tried) tried.firstByteAt = now;
    },
    onEnd(outcome, watch) {
      const left = outcome === "client_gone" || outcome === "slow_client";
      end(left ? 499 : 200, outcome === "ok" ? null : outcome, watch);
    },
  };
}

function wantOf(
  { route, worker, clientAddress }: ProxyCall,
  payload: Payload,
  exclude: readonly string[],
): Want {
  const { model, kind } = payload;
  const kinds = kind !== null ? [kind] : model === null ? route.kinds : withOpen(route.kinds);
  const oneModel = model === null && route.method === "POST";
  return {
    model,
    fallbacks: [],
    service: null,
    once: false,
    oneModel,
    kinds,
    worker,
    exclude,
    prompt: null,
    session: null,
    party: clientAddress,
    bodyHash: null,
    bodyBytes: payload.length,
    explain: false,
  };
}

/** Kinds that may be anything are asked too, where the model says that they are meant. */
function withOpen(kinds: readonly string[] | null): readonly string[] | null {
  return kinds === null ? null : [...kinds, ...OPEN_KINDS];
}

function finish(options: ProxyOptions, job: Job, failure: AttemptFailure): Response {
  const answer = failure.respond();
  if (answer instanceof LlmnodeError) throw answer;
  job.end(answer.status, failure.message);
  return withInfo(options, job.record, answer);
}

/** A form that is passed on as it comes is not held, and so not told. */
function beginningOf(payload: Payload): string {
  if (!payload.repeatable) return "";
  const content = payload.content({ askUsage: false });
  return content instanceof Uint8Array ? decoder.decode(content.subarray(0, MAX_LOGGED_BYTES)) : "";
}

const decoder = new TextDecoder();
