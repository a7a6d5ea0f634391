/** Carries a client's request to a service, an HTTP server of any kind, and its answer back. */

import { type Caller, callerName } from "../../protocol/caller.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";
import type { Trace } from "../../util/traceparent.ts";
import type { AttemptFailure } from "../answer/failure.ts";
import { Handling } from "../attempt/handling.ts";
import { type HandlingOptions, Handlings } from "../attempt/handlings.ts";
import type { Admission } from "../record/admission.ts";
import type { AttemptRecord } from "../record/record.ts";
import type { ProxyCall } from "../request/context.ts";
import type { Lease } from "../request/lease.ts";
import type { Route } from "../request/routes.ts";
import { ServiceAttempt, type ServiceRequest } from "./attempt.ts";
import { NO_BODY, readServiceBody, type ServiceBody } from "./body.ts";

/** Never throws: every failure of ours is an answer in OpenAI's form. */
export type ServiceProxy = (
  request: Request,
  call: ProxyCall,
  service: string,
) => Promise<Response>;

const SERVICE_ROUTE: Route = {
  path: "/v1/service/*",
  operation: "service",
  dialect: "openai",
  method: "POST",
  body: "none",
  asksUsage: false,
  kinds: null,
};
/** What may reach a service twice (RFC 9110, 9.2.2). */
const IDEMPOTENT: ReadonlySet<string> = new Set(["GET", "HEAD", "PUT", "DELETE", "OPTIONS"]);

export function createServiceProxy(options: HandlingOptions): ServiceProxy {
  const handlings = new Handlings(options);
  return (sent, call, service) =>
    new ServiceHandling(options, handlings, { sent, call, service }).start();
}

class ServiceHandling extends Handling implements ServiceRequest {
  readonly trace: Trace | null;
  body: ServiceBody = NO_BODY;
  readonly #service: string;

  constructor(
    options: HandlingOptions,
    handlings: Handlings,
    { sent, call, service }: { sent: Request; call: ProxyCall; service: string },
  ) {
    super(options, handlings, { sent, call, route: SERVICE_ROUTE });
    this.#service = service;
    this.record.model = service;
    this.trace = this.record.trace;
  }

  get path(): string {
    return this.call.path;
  }

  get requestId(): string {
    return this.call.requestId;
  }

  get hidesKey(): boolean {
    return this.call.caller.role !== "none";
  }

  get mayRepeat(): boolean {
    return IDEMPOTENT.has(this.sent.method) && this.body.isHeld;
  }

  onHead(): void {
    const now = this.now();
    this.record.firstByteMs = now - this.record.startedAt;
    const attemptRecord = this.record.attempts.at(-1);
    if (attemptRecord) attemptRecord.firstByteAt = now;
  }

  protected async read(): Promise<Admission> {
    const { sent, call, record, options } = this;
    checkRequest(sent, call.path);
    requireService(call.caller, this.#service);
    const body = await readServiceBody(sent, options.body);
    this.body = body;
    record.bytesIn = body.length ?? 0;
    record.bodyMs = body.waitedMs;
    const { operation } = SERVICE_ROUTE;
    return options.admit(call.caller, { operation, bytes: record.bytesIn, prompt: () => null });
  }

  protected wanted(): ReplicaRequest {
    const rest = { ...this.retry.constraints(), once: !this.mayRepeat };
    return replicaRequestOf(this.call, this.#service, rest);
  }

  protected begun(lease: Lease, record: AttemptRecord): ServiceAttempt {
    const attempt = new ServiceAttempt(this, { lease, record });
    attempt.send();
    return attempt;
  }

  protected isRepeatable({ outcome }: AttemptFailure): boolean {
    // A connection that was refused has carried nothing.
    return outcome === "unreachable" ? this.body.isWhole : this.mayRepeat;
  }

  protected refusalOf(error: unknown): unknown {
    return error;
  }

  protected free(): void {
    this.body.free();
  }

  protected errorEvent(): null {
    return null;
  }
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
function requireService(caller: Caller, service: string): void {
  if (caller.key === null || caller.key.allows(service)) return;
  throw new LlmnodeError("not_found", `There is no service ${JSON.stringify(service)}.`);
}

function replicaRequestOf(
  { worker, caller }: ProxyCall,
  service: string,
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
