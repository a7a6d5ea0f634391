/** One try of a request to a service: whatever it answers is the answer. */

import type { Attempted } from "../attempt/engine-request.ts";
import { readOn } from "../attempt/engine-request.ts";
import { AttemptScope } from "../attempt/scope.ts";
import { Relay } from "../answer/relay.ts";
import type { AttemptRecord } from "../record/record.ts";
import { createStreamWatch } from "../record/stream-watch.ts";
import { type AnswerHeaders, fieldLine, listed } from "../request/headers.ts";
import type { Lease } from "../request/lease.ts";
import type { AnswerHead, AnswerSink } from "../../util/http/exchange.ts";
import { type Trace, traceparentOf } from "../../util/traceparent.ts";
import type { ServiceBody } from "./body.ts";

/** A request to a service, as its attempts see it. */
export interface ServiceRequest extends Attempted {
  readonly path: string;
  readonly requestId: string;
  readonly trace: Trace | null;
  /** Whether the client's credential is one of the head's. */
  readonly hidesKey: boolean;
  readonly body: ServiceBody;
  /** Whether the service may get it twice. */
  readonly mayRepeat: boolean;
  /** The head of the answer is here. */
  onHead(): void;
}

/** Statuses whose answers have no body (RFC 9110, 6.4.1). */
const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

/** The status and the headers go on at once, each piece of the body as it comes. */
export class ServiceAttempt implements AnswerSink {
  readonly #of: ServiceRequest;
  readonly #scope: AttemptScope;
  #relay: Relay | null = null;
  /** The head of an answer without a body: its end is waited for, so that the connection is free. */
  #bodiless: AnswerHead | null = null;
  #isOver = false;

  constructor(of: ServiceRequest, { lease, record }: { lease: Lease; record: AttemptRecord }) {
    this.#of = of;
    const { now, request } = of;
    this.#scope = new AttemptScope({
      ...{ lease, record, now },
      client: request.signal,
      subject: "service",
    });
    this.#scope.sink = this;
  }

  send(): void {
    const { request, path, body, mayRepeat } = this.#of;
    const { lease } = this.#scope;
    this.#scope.send(
      {
        method: request.method,
        path,
        host: lease.hostHeader,
        fields: serviceFields(this.#of, this.#scope.record),
        body: body.content(),
        length: body.length,
        // A kept connection may be closed by the service just when it is used, which looks like a
        // crash: what must not arrive twice goes over a connection of its own.
        fresh: !mayRepeat,
      },
      this,
    );
  }

  late(): void {
    this.#scope.late();
  }

  head(head: AnswerHead): void {
    const of = this.#of;
    const { lease, record } = this.#scope;
    record.status = head.status;
    if (of.request.method === "HEAD" || BODILESS.has(head.status)) {
      this.#bodiless = head;
      return;
    }
    const watch = createStreamWatch({ format: null, dropUsage: false, tailBytes: 0 });
    of.watch = watch;
    lease.started();
    of.onHead();
    const { headers, cookies } = clientHeaders(head);
    const relay = new Relay({
      client: of.begin(head.status, headers, cookies),
      format: null,
      watch,
      keepAliveMs: of.options.keepAliveMs,
      slowClientMs: of.options.slowClientMs,
      breakFrame: () => "",
      onProgress: () => lease.progress(),
      onReading: (isReading) => readOn(this.#scope, isReading),
      onEnd: (end) => {
        const outcome = this.#scope.outcomeOf(end);
        this.#scope.done(outcome);
        // What the service still does for this request is of no use.
        if (end !== "ok") this.#scope.abort();
        of.onEnd(outcome, head.status);
      },
    });
    this.#relay = relay;
    of.relay = relay;
  }

  data(bytes: Uint8Array): void {
    this.#relay?.data(bytes);
  }

  end(): void {
    const head = this.#bodiless;
    if (head === null) return this.#relay?.end();
    if (this.#isOver) return;
    this.#isOver = true;
    const { headers, cookies } = clientHeaders(head);
    this.#scope.lease.started();
    this.#of.onHead();
    this.#scope.done("ok");
    this.#of.onEnd("ok", head.status);
    this.#of.answer({ status: head.status, headers, cookies, body: null });
  }

  fail(error: unknown): void {
    if (this.#relay) return this.#relay.fail(error);
    if (this.#isOver) return;
    this.#isOver = true;
    this.#of.onNoAnswer(this.#scope.lease, this.#scope.failed(error));
  }
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

const FROM_REQUESTS: ReadonlySet<string> = new Set(OF_REQUESTS);
const FROM_REQUESTS_WITH_KEYS: ReadonlySet<string> = new Set([...OF_REQUESTS, ...KEYS]);
const FROM_ANSWERS: ReadonlySet<string> = new Set(HOP_BY_HOP);

function serviceFields(of: ServiceRequest, { spanId }: AttemptRecord): string {
  const { headers } = of.request;
  // What lets the client in is the head's own, and nothing to show to others.
  const own = of.hidesKey ? FROM_REQUESTS_WITH_KEYS : FROM_REQUESTS;
  const hops = listed(headers.get("connection") ?? "");
  const traceparent = traceparentOf(of.trace, spanId);
  let fields = "";
  for (const [name, value] of headers) {
    if (own.has(name) || hops.has(name) || name.startsWith(OUR_OWN)) continue;
    if (name === "x-request-id" || (name === "traceparent" && traceparent !== null)) continue;
    fields += fieldLine(name, value);
  }
  // Otherwise the service may choose what the client cannot read.
  if (!headers.has("accept-encoding")) fields += "accept-encoding: identity\r\n";
  fields += fieldLine("x-request-id", of.requestId);
  return traceparent === null ? fields : fields + fieldLine("traceparent", traceparent);
}

function clientHeaders(head: AnswerHead): { headers: AnswerHeaders; cookies: string[] } {
  const headers: AnswerHeaders = {};
  const cookies: string[] = [];
  const connection = head.fields.find(([name]) => name === "connection")?.[1] ?? "";
  const hops = listed(connection);
  for (const [name, value] of head.fields) {
    if (FROM_ANSWERS.has(name) || hops.has(name) || name.startsWith(OUR_OWN)) continue;
    // The one field that cannot be joined (RFC 6265, 3).
    if (name === "set-cookie") cookies.push(value);
    else headers[name] = headers[name] === undefined ? value : `${headers[name]}, ${value}`;
  }
  return { headers, cookies };
}
