/** A request to an engine, as its attempts see it. */

import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import type { HttpRequest } from "../../util/http/exchange.ts";
import { type Trace, traceparentOf } from "../../util/traceparent.ts";
import type { Abandon } from "./abandon.ts";
import type { ClientStream } from "../answer/client-stream.ts";
import type { Continuation, Relay } from "../answer/relay.ts";
import type { WholeAnswer } from "../record/error-answer.ts";
import type { AttemptRecord } from "../record/record.ts";
import type { StreamWatch } from "../record/stream-watch.ts";
import type { ModelTarget } from "../request/aliases.ts";
import type { ClientRequest } from "../request/client-request.ts";
import { type AnswerHeaders, requestFields } from "../request/headers.ts";
import type { Lease } from "../request/lease.ts";
import type { Payload } from "../request/payload.ts";
import type { Route } from "../request/routes.ts";
import { AttemptScope, type NoAnswer } from "./scope.ts";

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

/** The request whose attempt it is: what the client gets, and what is written down of it. */
export interface Attempted {
  readonly options: AttemptOptions;
  readonly request: ClientRequest;
  readonly now: () => number;
  /** The answer's status and headers go to the client: a stream for the rest. */
  begin(status: number, headers: AnswerHeaders, cookies?: readonly string[]): ClientStream;
  /** The whole answer goes to the client. */
  answer(whole: WholeAnswer): void;
  /** What passes the answer on, from its begin to its end. */
  relay: Relay | null;
  /** What counts the answer as it passes. */
  watch: StreamWatch | null;
  /** The attempt has no answer, and all that it held is given back. */
  onNoAnswer(lease: Lease, how: NoAnswer): void;
  /** The answer has been passed on, or its passing on has ended. */
  onEnd(outcome: LeaseOutcome, status: number): void;
}

/** What a request to an engine is beside. */
export interface EngineRequest extends Attempted {
  readonly route: Route;
  readonly path: string;
  readonly requestId: string;
  readonly payload: Payload;
  readonly trace: Trace | null;
  /** Engine runs that do not know `stream_options`. */
  readonly refusesUsage: Set<string>;
  /** Tells the engine that no client waits, where it is not sure to notice. */
  readonly abandon: Abandon;
  /** What the replica is to get where the client asked for an alias. */
  targetAt(lease: Lease): ModelTarget | null;
  /** What lets the answer go on elsewhere if this engine breaks off; null: nothing does. */
  resumable(here: BegunAnswer): Resumable | null;
  /** The engine's first data is here. */
  onFirstData(lease: Lease, first: Uint8Array): void;
}

/** An answer that begins, and what another replica would need to go on with it. */
export interface BegunAnswer {
  /** The body as the engine got it. */
  sent: HttpRequest["body"];
  scope: AttemptScope;
  request: EngineRequest;
}

/** An answer that may go on at another replica. */
export interface Resumable extends Continuation {
  /** The attempt that the answer comes from now. */
  scope(): AttemptScope;
  /** The request has taken longer than it may. */
  late(): void;
}

/** `name` is what the engine knows the attempt by, where it is told one. */
export function scopeFor(
  of: EngineRequest,
  { lease, record }: { lease: Lease; record: AttemptRecord },
  name: string | null,
): AttemptScope {
  return new AttemptScope({
    lease,
    record,
    client: of.request.signal,
    now: of.now,
    subject: "engine",
    onAbandoned: name === null ? undefined : () => of.abandon(lease, name),
  });
}

/** A request of an attempt to its engine. */
export function engineRequest(
  of: EngineRequest,
  { lease, record }: Pick<AttemptScope, "lease" | "record">,
  more: Partial<HttpRequest> & Pick<HttpRequest, "body">,
): HttpRequest {
  return {
    method: of.request.method,
    path: of.path,
    host: lease.hostHeader,
    fields: requestFields(of.request.headers, {
      requestId: of.requestId,
      apiKey: lease.apiKey,
      contentType: of.payload.contentType,
      traceparent: traceparentOf(of.trace, record.spanId),
    }),
    length: null,
    fresh: false,
    ...more,
  };
}

/** Whether the engine is to send more: not while its client is behind. */
export function readOn(scope: AttemptScope, isReading: boolean): void {
  scope.lease.reading(isReading);
  if (isReading) scope.resume();
  else scope.pause();
}
