/** Carries a client's request to a service, an HTTP server of any kind, and its answer back. */

import { LlmnodeError } from "../protocol/errors.ts";
import { attemptService } from "./service-attempt.ts";
import type { AttemptFailure } from "./failure.ts";
import { clientGone } from "./hold.ts";
import type { Lease, Want } from "./lease.ts";
import type { ProxyCall, ProxyOptions } from "./proxy.ts";
import type { RequestRecord } from "./record.ts";
import { finisher, refusal, startAttempt, startRecord, withInfo } from "./recording.ts";
import { readServiceBody, type ServiceBody } from "./service-body.ts";

export interface ServiceCall extends Omit<ProxyCall, "route"> {
  service: string;
}

/** Never throws: every failure of ours is an answer in OpenAI's form. */
export type ServiceProxy = (request: Request, call: ServiceCall) => Promise<Response>;

const ROUTE = { path: "/v1/service/*", operation: "service", dialect: "openai" } as const;
/** What may reach a service twice (RFC 9110, 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]);

export function createServiceProxy(options: ProxyOptions): ServiceProxy {
  return async (request, called) => {
    const call = { ...called, route: ROUTE };
    const record = startRecord(options, request, call);
    record.model = call.service;
    const end = finisher(options, { record, onEnd: call.onEnd });
    try {
      checkRequest(request, call.path);
      const body = await readServiceBody(request, options.body);
      record.bytesIn = body.length ?? 0;
      record.bodyMs = body.waitedMs;
      try {
        return await run(options, { request, call, body, record, end });
      } finally {
        body.free();
      }
    } catch (error) {
      return refusal(error, { call, end });
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
    throw new LlmnodeError("method_not_allowed", `${method} is not passed on.`, { allow });
  }
  const [pathname = ""] = path.split("?", 1);
  if (UNSAFE_PATH.test(pathname)) {
    const message =
      "A path that begins with '//', or has a backslash or NUL in it, is not passed on.";
    throw new LlmnodeError("bad_request", message);
  }
  const hasBody = headers.has("transfer-encoding") || Number(headers.get("content-length")) > 0;
  if (hasBody && (method === "GET" || method === "HEAD")) {
    throw new LlmnodeError("bad_request", `A ${method} with a body is not passed on.`);
  }
}

interface Job {
  request: Request;
  call: ServiceCall;
  body: ServiceBody;
  record: RequestRecord;
  end: ReturnType<typeof finisher>;
}

async function run(options: ProxyOptions, job: Job): Promise<Response> {
  const { request, call, body, record, end } = job;
  const mayRepeat = IDEMPOTENT.has(request.method) && body.isHeld;
  const exclude: string[] = [];
  let counted = 0;
  let failure: AttemptFailure | null = null;
  for (;;) {
    if (request.signal.aborted) throw clientGone();
    let lease: Lease;
    const askedAt = options.now();
    try {
      const want = wantOf(call, { exclude, once: !mayRepeat });
      lease = await options.acquire(want, request.signal);
    } catch (error) {
      throw failure?.respond() ?? error;
    } finally {
      record.queueMs += options.now() - askedAt;
    }
    record.modelKnown = true;
    const tried = startAttempt(options, { lease, trace: record.trace });
    record.attempts.push(tried);
    const result = await attemptService(
      options,
      {
        request,
        path: call.path,
        requestId: call.requestId,
        startedAt: record.startedAt,
        body,
        mayRepeat,
        now: options.now,
        trace: record.trace,
        onAnswer() {
          const now = options.now();
          record.firstByteMs = now - record.startedAt;
          tried.firstByteAt = now;
        },
        onEnd({ status, outcome, watch }) {
          const left = outcome === "client_gone" || outcome === "slow_client";
          end(left ? 499 : status, outcome === "ok" ? null : outcome, watch);
        },
      },
      { lease, record: tried },
    );
    if (result.kind === "answer") return withInfo(options, record, result.response);
    exclude.push(lease.engine);
    if (result.kind === "moved") continue;
    failure = result.failure;
    counted += 1;
    // A connection that was refused has carried nothing.
    const again = failure.outcome === "unreachable" ? body.isWhole : mayRepeat;
    if (!failure.retry || !again || counted >= options.maxAttempts) throw failure.respond();
  }
}

function wantOf(
  { service, worker, clientAddress }: ServiceCall,
  rest: { exclude: readonly string[]; once: boolean },
): Want {
  return {
    model: null,
    fallbacks: [],
    service,
    oneModel: false,
    kinds: null,
    worker,
    prompt: null,
    session: null,
    party: clientAddress,
    bodyHash: null,
    bodyBytes: 0,
    explain: false,
    ...rest,
  };
}
