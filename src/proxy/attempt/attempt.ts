/** One try of a request on one replica, until its answer can be passed on or has failed. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import { readUpTo } from "../../util/flow/bytes.ts";
import { type Trace, traceparentOf } from "../../util/traceparent.ts";
import { type Abandon, nameFor } from "./abandon.ts";
import type { ModelTarget } from "../request/aliases.ts";
import { errorFrame } from "../record/error-answer.ts";
import { type AttemptFailure, refusesStreamOptions, statusFailure } from "../answer/failure.ts";
import { errorIn, readFirst } from "../answer/first-frame.ts";
import { formatOf, type StreamFormat } from "../record/frames.ts";
import { requestHeaders, responseHeaders } from "../request/headers.ts";
import {
  type Attempted,
  type AttemptScope,
  type Resumable,
  type BegunAnswer,
  type Source,
  outcomeOf,
  startScope,
  tooLate,
} from "./scope.ts";
import { send } from "./send.ts";
import type { Lease } from "../request/lease.ts";
import { type ClientRequest, clientGone, goneBecause } from "../request/client-request.ts";
import type { Payload } from "../request/payload.ts";
import type { AttemptRecord } from "../record/record.ts";
import { type ChunkReader, relay } from "../answer/relay.ts";
import type { Route } from "../request/routes.ts";
import { createStreamWatch, type StreamWatch } from "../record/stream-watch.ts";
import type { BodyContent, UpstreamRequest } from "../request/upstream.ts";

export const ATTEMPT_DEFAULTS = {
  /** An answer of known length up to this is taken whole before the client gets any of it. */
  wholeAnswerBytes: 256 * 1024,
  /** How much of an engine's error is read. */
  errorBodyBytes: 64 * 1024,
  /** How much of a stream's end is kept for accounting. */
  tailBytes: 64 * 1024,
  keepAliveMs: 15_000,
  slowClientMs: 60_000,
  /** How long a request may take in all; null: as long as it likes. */
  totalTimeoutMs: null as number | null,
};
export type AttemptOptions = typeof ATTEMPT_DEFAULTS;

export interface AttemptJob {
  request: ClientRequest;
  route: Route;
  path: string;
  requestId: string;
  /** When the request arrived, by `now`. */
  startedAt: number;
  payload: Payload;
  /** What this replica is to get where the client asked for an alias. */
  target: ModelTarget | null;
  now: () => number;
  trace: Trace | null;
  /** Engine runs that do not know `stream_options`. */
  refusesUsage: Set<string>;
  /** Tells the engine that no client waits, where it is not sure to notice. */
  abandon: Abandon;
  /** What lets the answer go on elsewhere if this engine breaks off; null: nothing does. */
  resume: (here: BegunAnswer) => Resumable | null;
  /** The engine's first data is here. */
  onFirstData: (first: Uint8Array) => void;
  /** What counts the answer as it passes. */
  onWatch: (watch: StreamWatch) => void;
  /** The answer that `answered` holds has been passed on, or its passing on has ended. */
  onEnd: (outcome: LeaseOutcome, watch: StreamWatch) => void;
}

/** Throws only `client_gone`; the lease is given back in every case, here or by the answer's end. */
export async function attempt(
  options: AttemptOptions,
  job: AttemptJob,
  { lease, record }: { lease: Lease; record: AttemptRecord },
): Promise<Attempted> {
  const name = nameFor(lease, job.route, job.payload);
  const scope = scopeFor({ options, job }, { lease, record }, name);
  try {
    if (job.request.signal.aborted) throw clientGone();
    const askUsage = job.payload.canAskUsage && !job.refusesUsage.has(lease.engineRun);
    const upstream = (content: BodyContent): UpstreamRequest => ({
      path: job.path,
      method: job.request.method,
      headers: headersFor(job, { lease, record }),
      body: content,
      signal: scope.signal,
    });
    let sent = job.payload.content({ target: job.target, askUsage, name });
    let response = await send(lease, upstream(sent), job.payload);
    let failure = response.ok ? null : await failureOf(response, options, job.route);
    let askedUsage = askUsage;
    if (failure && askUsage && refusesStreamOptions(failure)) {
      job.refusesUsage.add(lease.engineRun);
      askedUsage = false;
      sent = job.payload.content({ target: job.target, askUsage: false, name });
      response = await send(lease, upstream(sent), job.payload);
      failure = response.ok ? null : await failureOf(response, options, job.route);
    }
    record.status = response.status;
    if (failure) {
      scope.done(failure.outcome, { retryAfterMs: failure.retryAfterMs });
      return { kind: "failure", failure };
    }
    return await answer({ options, job, lease, scope, response, sent, dropUsage: askedUsage });
  } catch (error) {
    return scope.failed(error);
  }
}

interface Trying {
  lease: Lease;
  record: AttemptRecord;
}

/** `name` is what the engine knows the attempt by, where it is told one. */
function scopeFor(
  { options, job }: { options: AttemptOptions; job: AttemptJob },
  { lease, record }: Trying,
  name: string | null,
): AttemptScope {
  const { startedAt, now } = job;
  return startScope({
    lease,
    record,
    client: job.request.signal,
    startedAt,
    now,
    totalTimeoutMs: options.totalTimeoutMs,
    subject: "engine",
    onAbandoned: name === null ? undefined : () => job.abandon(lease, name),
  });
}

async function failureOf(
  response: Response,
  options: AttemptOptions,
  route: Route,
): Promise<AttemptFailure> {
  const { bytes } = await readUpTo(response.body, options.errorBodyBytes);
  return statusFailure(
    { status: response.status, headers: response.headers, bytes },
    route.dialect,
  );
}

interface Answering extends Source {
  options: AttemptOptions;
  job: AttemptJob;
  response: Response;
  /** The body that it answers. */
  sent: BodyContent;
  dropUsage: boolean;
}

/** Waits for the first data, so that a failure before it can still be repaired elsewhere. */
async function answer(on: Answering): Promise<Attempted> {
  const { options, job, lease, scope, response } = on;
  const format = formatOf(response.headers);
  const init = {
    status: response.status,
    headers: responseHeaders(response.headers, { isStream: format !== null }),
  };
  const resumable =
    format === "sse"
      ? job.resume({
          sent: on.sent,
          source: { lease, scope },
          headers: (next, record) => headersFor(job, { lease: next, record }),
          startScope: (next, record) => scopeFor({ options, job }, { lease: next, record }, null),
        })
      : null;
  const source = () => resumable?.source() ?? on;
  const watch = createStreamWatch({
    format,
    dropUsage: on.dropUsage && format === "sse",
    wholeFrames: resumable !== null,
    tailBytes: options.tailBytes,
  });
  job.onWatch(watch);
  const begun: Begun = { format, init, watch };
  const length = Number(response.headers.get("content-length") ?? Number.NaN);
  if (response.body === null || length <= options.wholeAnswerBytes) {
    return wholeAnswer(on, begun, new Uint8Array(await response.arrayBuffer()));
  }
  const reader: ChunkReader = response.body.getReader();
  const first = await readFirst(reader, format);
  if (first === null) {
    if (format !== null) throw new Error("the stream ended before its first frame");
    return wholeAnswer(on, begun, new Uint8Array());
  }
  const failed = failureIn(on, format, first);
  if (failed) return failed;
  lease.started();
  job.onFirstData(first);
  const body = relay({
    reader,
    first,
    format,
    watch,
    keepAliveMs: options.keepAliveMs,
    slowClientMs: options.slowClientMs,
    continuation: resumable,
    breakFrame: () => errorFrame(breakReason(job, source().scope), job.route.dialect),
    onProgress: () => source().lease.progress(),
    onReading: (isReading) => source().lease.reading(isReading),
    onEnd: (end) => {
      const { scope } = source();
      const outcome = outcomeOf(end, job.request.signal, scope);
      scope.done(outcome, { usage: watch.facts().usage });
      // What the engine still does for this request is of no use.
      if (end !== "ok") scope.abort();
      job.onEnd(outcome, watch);
    },
  });
  return { kind: "answer", response: new Response(body, init) };
}

/** What is known of an answer once its headers are here. */
interface Begun {
  format: StreamFormat | null;
  init: { status: number; headers: Headers };
  watch: StreamWatch;
}

/** Ends the attempt where the answer's first frame is an error. */
function failureIn(
  { job, scope }: Answering,
  format: StreamFormat | null,
  first: Uint8Array,
): Attempted | null {
  const { dialect } = job.route;
  const failure = format === null ? null : errorIn(first, { format, dialect });
  if (!failure) return null;
  scope.abort();
  scope.done(failure.outcome);
  return { kind: "failure", failure };
}

function wholeAnswer(
  on: Answering,
  { format, init, watch }: Begun,
  bytes: Uint8Array<ArrayBuffer>,
): Attempted {
  const failed = failureIn(on, format, bytes);
  if (failed) return failed;
  const { job, lease, scope } = on;
  lease.started();
  job.onFirstData(bytes);
  const parts = [watch.push(bytes), watch.flush()].filter((part) => part !== null);
  scope.done("ok", { usage: watch.facts().usage });
  job.onEnd("ok", watch);
  // Most often the very bytes that came, which need no copy.
  const body = parts[0] === bytes ? bytes : Buffer.concat(parts);
  return { kind: "answer", response: new Response(body, init) };
}

function breakReason({ request }: AttemptJob, scope: AttemptScope): LlmnodeError {
  if (request.signal.aborted) return goneBecause(request.signal);
  if (scope.isLate()) return tooLate();
  return new LlmnodeError("upstream_broken", "The engine died before its answer was complete.");
}

function headersFor(job: AttemptJob, { lease, record }: Trying): Headers {
  return requestHeaders(job.request.headers, {
    requestId: job.requestId,
    apiKey: lease.apiKey,
    hostHeader: lease.hostHeader,
    contentType: job.payload.contentType,
    traceparent: traceparentOf(job.trace, record.spanId),
  });
}
