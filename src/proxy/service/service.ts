/** Carries a client's request to a service, an HTTP server of any kind, and its answer back. */

import type { ProxyCall } from "../request/context.ts";
import { clientGone } from "../request/client-request.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { callerName } from "../../protocol/caller.ts";
import { type Admission, type Admit, NO_ADMISSION, withAdmission } from "../record/admission.ts";
import { attemptService } from "./attempt.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Acquire, Lease } from "../request/lease.ts";
import type { AttemptOptions } from "../attempt/attempt.ts";
import type { BodyLimits } from "../request/body.ts";
import type { RequestRecord } from "../record/record.ts";
import {
  finisher,
  type RecordingOptions,
  refusal,
  startAttempt,
  startRecord,
  withInfo,
} from "../record/recording.ts";
import { readServiceBody, type ServiceBody } from "./body.ts";
import { createRetryState, type RetryOptions } from "../attempt/retry.ts";

/** What a request needs that is passed on, to a service or an engine. */
export interface ServiceOptions extends AttemptOptions, RecordingOptions, RetryOptions {
  acquire: Acquire;
  /** Asked once for each request that could be read, before it asks for a replica. */
  admit: Admit;
  body: BodyLimits;
}

export interface ServiceCall extends Omit<ProxyCall, "route"> {
  service: string;
}

/** Never throws: every failure of ours is an answer in OpenAI's form. */
export type ServiceProxy = (request: Request, call: ServiceCall) => Promise<Response>;

const ROUTE = { path: "/v1/service/*", operation: "service", dialect: "openai" } as const;
/** What may reach a service twice (RFC 9110, 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]);

export function createServiceProxy(options: ServiceOptions): ServiceProxy {
  return async (request, called) => {
    const call = { ...called, route: ROUTE };
    const record = startRecord(options, request, call);
    record.model = call.service;
    let admission: Admission = NO_ADMISSION;
    const onEnd = () => {
      admission.end(record);
      call.onEnd();
    };
    const end = finisher(options, { record, onEnd });
    try {
      checkRequest(request, call.path);
      requireService(call);
      const body = await readServiceBody(request, options.body);
      record.bytesIn = body.length ?? 0;
      record.bodyMs = body.waitedMs;
      try {
        const facts = { operation: ROUTE.operation, bytes: record.bytesIn, prompt: () => null };
        admission = options.admit(call.caller, facts);
        if (admission.refusal !== null) throw admission.refusal;
        const response = await run(options, { request, call, body, record, end });
        return withAdmission(response, admission);
      } finally {
        body.free();
      }
    } catch (error) {
      return withAdmission(refusal(error, { call, end }), admission);
    }
  };
}

/** Characters that would be left out or changed on the way. */
const UNSAFE_PATH = /^\/\/|[\0-\x20\x7f\\#]|%00/;

/** Throws `bad_request`, `method_not_allowed`, `not_supported`. */
function checkRequest(request: Request, path: string): void {
  const { method, headers } = request;
  if (headers.has("upgrade") && /\bupgrade\b/i.test(headers.get("connection") ?? "")) {
    throw new LlmnodeError("not_supported", "WebSocket and other upgrades are not supported.");
  }
  if (method === "TRACE" || method === "CONNECT") {
    const allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    throw new LlmnodeError("method_not_allowed", `${method} requests are not supported.`, {
      allow,
    });
  }
  const [pathname = ""] = path.split("?", 1);
  if (UNSAFE_PATH.test(pathname)) {
    const message = "Paths that begin with '//' or contain a backslash or NUL are not allowed.";
    throw new LlmnodeError("bad_request", message);
  }
  const hasBody = headers.has("transfer-encoding") || Number(headers.get("content-length")) > 0;
  if (hasBody && (method === "GET" || method === "HEAD")) {
    throw new LlmnodeError("bad_request", `A ${method} request must not have a body.`);
  }
}

/** A key for some names only is for services by these names too. Throws `not_found`. */
function requireService({ caller, service }: ServiceCall): void {
  if (caller.key === null || caller.key.allows(service)) return;
  throw new LlmnodeError("not_found", `There is no service ${JSON.stringify(service)}.`);
}

interface Job {
  request: Request;
  call: ServiceCall;
  body: ServiceBody;
  record: RequestRecord;
  end: ReturnType<typeof finisher>;
}

async function run(options: ServiceOptions, job: Job): Promise<Response> {
  const { request, call, body, record, end } = job;
  const mayRepeat = IDEMPOTENT.has(request.method) && body.isHeld;
  using retry = createRetryState(options, request.signal);
  for (;;) {
    if (request.signal.aborted) throw clientGone();
    let lease: Lease;
    const askedAt = options.now();
    try {
      const wanted = replicaRequestOf(call, { ...retry.constraints(), once: !mayRepeat });
      lease = await options.acquire(wanted, retry.signal());
    } catch (error) {
      throw retry.refused(error).respond();
    } finally {
      record.queueMs += options.now() - askedAt;
    }
    record.modelKnown = true;
    const attemptRecord = startAttempt(options, { lease, trace: record.trace });
    record.attempts.push(attemptRecord);
    const result = await attemptService(
      options,
      {
        request,
        path: call.path,
        requestId: call.requestId,
        // What lets clients in here is nothing to show to a service.
        hidesKey: call.caller.role !== "none",
        startedAt: record.startedAt,
        body,
        mayRepeat,
        now: options.now,
        trace: record.trace,
        onAnswer() {
          const now = options.now();
          record.firstByteMs = now - record.startedAt;
          attemptRecord.firstByteAt = now;
        },
        onEnd({ status, outcome, watch }) {
          const left = outcome === "client_gone" || outcome === "slow_client";
          end(left ? 499 : status, outcome === "ok" ? null : outcome, watch);
        },
      },
      { lease, record: attemptRecord },
    );
    if (result.kind === "answer") return withInfo(options, record, result.response);
    if (result.kind === "moved") {
      retry.moved(lease);
      continue;
    }
    const { failure } = result;
    // A connection that was refused has carried nothing.
    const repeatable = failure.outcome === "unreachable" ? body.isWhole : mayRepeat;
    if (!(await retry.shouldRetry({ lease, failure, repeatable }))) throw retry.failure().respond();
  }
}

function replicaRequestOf(
  { service, worker, caller }: ServiceCall,
  rest: Pick<ReplicaRequest, "exclude" | "minContext" | "once">,
): ReplicaRequest {
  return {
    model: null,
    fallbacks: [],
    service,
    oneModel: false,
    kinds: null,
    worker,
    engineRun: null,
    prompt: null,
    session: null,
    caller: callerName(caller),
    bodyHash: null,
    bodyBytes: 0,
    stream: false,
    explain: false,
    ...rest,
  };
}
