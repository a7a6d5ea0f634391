/** One try of a request to a service: whatever it answers is the answer. */

import { send } from "../attempt/send.ts";
import { clientGone } from "../request/client-request.ts";
import { traceparentOf } from "../../util/traceparent.ts";
import type { AttemptJob, AttemptOptions } from "../attempt/attempt.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import { type Attempted, outcomeOf, type Source, startScope } from "../attempt/scope.ts";
import type { Lease } from "../request/lease.ts";
import type { AttemptRecord } from "../record/record.ts";
import { relay } from "../answer/relay.ts";
import type { ServiceBody } from "./body.ts";
import { createStreamWatch, type StreamWatch } from "../record/stream-watch.ts";
import type { UpstreamRequest } from "../request/upstream.ts";

export interface ServiceJob extends Pick<
  AttemptJob,
  "path" | "requestId" | "startedAt" | "now" | "trace"
> {
  request: Request;
  /** Whether the client's credential is one of the head's. */
  hidesKey: boolean;
  body: ServiceBody;
  /** Whether the service may get it twice. */
  mayRepeat: boolean;
  /** The head of the answer is here. */
  onAnswer: () => void;
  /** The answer has been passed on, or its passing on has ended. */
  onEnd: (ended: { status: number; outcome: LeaseOutcome; watch: StreamWatch }) => void;
}

/** Statuses whose answers have no body (RFC 9110, 6.4.1). */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** Throws only `client_gone`; the lease is given back in every case, here or by the answer's end. */
export async function attemptService(
  options: AttemptOptions,
  job: ServiceJob,
  { lease, record }: { lease: Lease; record: AttemptRecord },
): Promise<Attempted> {
  const { request, startedAt, now, trace } = job;
  const { totalTimeoutMs } = options;
  const client = request.signal;
  const subject = "service";
  const scope = startScope({ lease, record, client, startedAt, now, totalTimeoutMs, subject });
  try {
    if (client.aborted) throw clientGone();
    const traceparent = traceparentOf(trace, record.spanId);
    const { requestId, hidesKey } = job;
    const { hostHeader } = lease;
    const response = await sendToService(lease, job, {
      path: job.path,
      method: request.method,
      headers: serviceRequestHeaders(request.headers, {
        requestId,
        hostHeader,
        traceparent,
        hidesKey,
      }),
      body: job.body.content(),
      length: job.body.length,
      signal: scope.signal,
    });
    record.status = response.status;
    return await answer(options, { job, lease, scope, response });
  } catch (error) {
    return scope.failed(error);
  }
}

/**
 * A kept connection may be closed by the service just when it is used, and fetch does not tell that
 * from a crash: what must not arrive twice goes over a connection of its own.
 */
async function sendToService(
  lease: Lease,
  job: ServiceJob,
  request: UpstreamRequest,
): Promise<Response> {
  if (!job.mayRepeat) return await lease.upstream({ ...request, fresh: true });
  return await send(lease, request, { repeatable: true });
}

interface Answering extends Source {
  job: ServiceJob;
  response: Response;
}

/** The status and the headers go on at once, each piece of the body as it comes. */
async function answer(
  options: AttemptOptions,
  { job, lease, scope, response }: Answering,
): Promise<Attempted> {
  const { status } = response;
  const init = { status, headers: serviceResponseHeaders(response.headers) };
  const watch = createStreamWatch({ format: null, dropUsage: false, tailBytes: 0 });
  const isEmpty = job.request.method === "HEAD" || BODILESS.has(status) || response.body === null;
  // To its end, so that the connection is free again.
  if (isEmpty) await response.arrayBuffer();
  lease.started();
  job.onAnswer();
  if (isEmpty || response.body === null) {
    scope.done("ok");
    job.onEnd({ status, outcome: "ok", watch });
    return { kind: "answer", response: new Response(null, init) };
  }
  const body = relay({
    reader: response.body.getReader(),
    first: null,
    format: null,
    watch,
    keepAliveMs: options.keepAliveMs,
    slowClientMs: options.slowClientMs,
    breakFrame: () => "",
    onProgress: lease.progress,
    onReading: lease.reading,
    onEnd(end) {
      const outcome = outcomeOf(end, job.request.signal, scope);
      scope.done(outcome);
      // What the service still does for this request is of no use.
      if (end !== "ok") scope.abort();
      job.onEnd({ status, outcome, watch });
    },
  });
  return { kind: "answer", response: new Response(body, init) };
}

// RFC 9110, 7.6.1, and what clients and servers of old send. `content-length` and `host` are set
// by the sender; `expect` is answered by the head's own server.
const HOP_BY_HOP: readonly string[] = [
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];
const OF_REQUESTS: readonly string[] = [...HOP_BY_HOP, "content-length", "expect", "host"];
const KEYS: readonly string[] = ["authorization", "x-api-key"];
/** What clients say to the head, and the head to clients. */
const OUR_OWN = "x-llmnode-";

function serviceRequestHeaders(
  from: Headers,
  extra: {
    requestId: string;
    hostHeader: string | null;
    traceparent: string | null;
    /** Whether what lets the client in is the head's own, and nothing to show to others. */
    hidesKey: boolean;
  },
): Headers {
  const headers = without(from, extra.hidesKey ? [...OF_REQUESTS, ...KEYS] : OF_REQUESTS);
  // Otherwise fetch would offer its own in the client's name.
  if (!headers.has("accept-encoding")) headers.set("accept-encoding", "identity");
  headers.set("x-request-id", extra.requestId);
  if (extra.traceparent !== null) headers.set("traceparent", extra.traceparent);
  if (extra.hostHeader !== null) headers.set("host", extra.hostHeader);
  return headers;
}

function serviceResponseHeaders(from: Headers): Headers {
  return without(from, HOP_BY_HOP);
}

function without(from: Headers, names: readonly string[]): Headers {
  const hops = new Set([...names, ...(from.get("connection") ?? "").toLowerCase().split(/[\s,]+/)]);
  const headers = new Headers();
  for (const [name, value] of from) {
    if (!hops.has(name) && !name.startsWith(OUR_OWN)) headers.append(name, value);
  }
  return headers;
}
