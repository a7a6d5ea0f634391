/** One request of a client, from its arrival to its end: its body, its attempts, its answer. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { LeaseOutcome, ReplicaRequest } from "../../protocol/replica-request.ts";
import { ClientStream, type StreamEvents } from "../answer/client-stream.ts";
import type { AttemptFailure } from "../answer/failure.ts";
import { KEEP_ALIVE, type Relay } from "../answer/relay.ts";
import { type Admission, NO_ADMISSION } from "../record/admission.ts";
import { errorAnswer, HTTP_MEANING, type WholeAnswer } from "../record/error-answer.ts";
import type { AttemptRecord, RequestRecord } from "../record/record.ts";
import {
  addInfo,
  completeRecord,
  type LiveRequest,
  startAttempt,
  startRecord,
} from "../record/recording.ts";
import type { StreamWatch } from "../record/stream-watch.ts";
import {
  Cancellation,
  cancelled,
  type ClientRequest,
  clientGone,
  goneBecause,
} from "../request/client-request.ts";
import type { ProxyCall } from "../request/context.ts";
import { type AnswerHeaders, EVENT_STREAM } from "../request/headers.ts";
import type { Lease } from "../request/lease.ts";
import type { Route } from "../request/routes.ts";
import type { Attempted } from "./engine-request.ts";
import { type HandlingOptions, type Handlings, YOUNG_MS } from "./handlings.ts";
import { RetryState } from "./retry.ts";
import type { NoAnswer } from "./scope.ts";

/** What is running for a request that can be over its time. */
interface Running {
  late(): void;
}

/**
 * The one object of a request. `start` is called once; whatever happens then, the client gets one
 * answer, each lease is given back and the record is handed over, once.
 */
export abstract class Handling implements Attempted, LiveRequest, StreamEvents {
  readonly options: HandlingOptions;
  readonly call: ProxyCall;
  readonly route: Route;
  readonly record: RequestRecord;
  readonly now: () => number;
  readonly request: ClientRequest;
  watch: StreamWatch | null = null;
  relay: Relay | null = null;
  protected readonly sent: Request;
  readonly #signal = new Cancellation();
  protected readonly retry: RetryState;
  readonly #handlings: Handlings;
  readonly #arrivedAt = performance.now();
  readonly #response = Promise.withResolvers<Response>();
  #admission: Admission = NO_ADMISSION;
  #running: Running | null = null;
  #client: ClientStream | null = null;
  #isComplete = false;
  /** When the replica was asked for that is waited for; 0: none is. */
  #askedAt = 0;
  /** Since when the client of a stream waits for a word, by `performance.now()`. */
  #toldAt = Number.POSITIVE_INFINITY;

  constructor(
    options: HandlingOptions,
    handlings: Handlings,
    { sent, call, route }: { sent: Request; call: ProxyCall; route: Route },
  ) {
    this.options = options;
    this.#handlings = handlings;
    this.sent = sent;
    this.call = call;
    this.route = route;
    this.now = options.now;
    this.request = { method: sent.method, headers: sent.headers, signal: this.#signal };
    this.record = startRecord(options, sent, { call, route });
    this.retry = new RetryState(options, this.#signal);
  }

  /** Takes the body in, notes in the record what it says, and asks for what it needs. */
  protected abstract read(): Promise<Admission>;
  /** What the next replica is to be. Throws LlmnodeError where none is to be asked. */
  protected abstract wanted(): ReplicaRequest;
  protected abstract begun(lease: Lease, record: AttemptRecord): Running;
  /** Whether the request can be sent once more after such a failure. */
  protected abstract isRepeatable(failure: AttemptFailure): boolean;
  /** Why no replica is to be had, in the client's terms. */
  protected abstract refusalOf(error: unknown): unknown;
  /** Lets go of the body: nothing will be sent again. */
  protected abstract free(): void;
  /** An error for a client that has its status already; null: its answer is no stream. */
  protected abstract errorEvent(body: string): string | null;

  /** Never rejects. */
  start(): Promise<Response> {
    this.options.onLive(this);
    this.#handlings.add(this);
    this.read().then(
      (admission) => this.#onRead(admission),
      (error: unknown) => this.#refuse(error),
    );
    return this.#response.promise;
  }

  /** Ends it as if the client had left; the client is told why. */
  cancel(): void {
    this.#signal.abort(cancelled());
  }

  checkYoung(now: number): void {
    if (now - this.#arrivedAt < YOUNG_MS) return;
    this.#handlings.age(this);
    this.call.keepOpen();
    const { signal } = this.sent;
    const leave = () => this.#signal.abort(clientGone());
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave);
  }

  check(now: number): void {
    const { totalTimeoutMs, firstKeepAliveMs, keepAliveMs } = this.options;
    if (totalTimeoutMs !== null && now - this.#arrivedAt >= totalTimeoutMs) this.#running?.late();
    if (this.relay !== null) return this.relay.check(now);
    const silentMs = now - this.#toldAt;
    if (silentMs >= (this.#client === null ? firstKeepAliveMs : keepAliveMs)) {
      this.#keepWaiting(now);
    }
  }

  begin(status: number, headers: AnswerHeaders, cookies: readonly string[] = []): ClientStream {
    this.free();
    addInfo(this.options, this.record, headers);
    return this.#client ?? this.#open(status, headers, cookies);
  }

  answer(whole: WholeAnswer): void {
    addInfo(this.options, this.record, whole.headers);
    this.#answer(whole);
  }

  #answer({ status, headers, body, cookies = [] }: WholeAnswer): void {
    this.free();
    const client = this.#client;
    if (client === null) return this.#respond(body, { status, headers, cookies });
    const text = status < 400 ? null : this.errorEvent(typeof body === "string" ? body : "");
    if (text !== null) client.write(encoder.encode(text));
    else if (body instanceof Uint8Array) client.write(body);
    client.end();
  }

  onEnd(outcome: LeaseOutcome, status: number): void {
    const left = outcome === "client_gone" || outcome === "slow_client";
    this.#complete(left ? 499 : status, outcome === "ok" ? null : outcome);
  }

  onNoAnswer(lease: Lease, how: NoAnswer): void {
    this.#running = null;
    if (how.kind === "gone") this.#refuse(clientGone());
    else if (how.kind === "moved") {
      this.retry.moved(lease);
      this.#next();
    } else {
      const { failure } = how;
      const repeatable = this.isRepeatable(failure);
      this.retry.shouldRetry({ lease, failure, repeatable }).then(
        (again) => (again ? this.#next() : this.#finish(this.retry.failure())),
        (error: unknown) => this.#refuse(error),
      );
    }
  }

  onDrained(): void {
    this.relay?.drained();
  }

  onLeft(): void {
    this.relay?.left();
    this.#signal.abort(clientGone());
  }

  #onRead(admission: Admission): void {
    this.#admission = admission;
    if (this.errorEvent("") !== null) this.#toldAt = performance.now();
    if (admission.refusal === null) this.#next();
    else this.#refuse(admission.refusal);
  }

  #next(): void {
    const { record, options } = this;
    let taken: Lease | Promise<Lease>;
    try {
      if (this.#signal.aborted) throw clientGone();
      const wanted = this.wanted();
      record.promptBytes = wanted.prompt?.bytes ?? null;
      this.#askedAt = options.now();
      taken = options.acquire(wanted, this.retry.signal());
    } catch (error) {
      return this.#onNoLease(error);
    }
    // Tested before it is waited for: most requests do not wait.
    if (!(taken instanceof Promise)) return this.#onLease(taken);
    taken.then(
      (lease) => this.#onLease(lease),
      (error: unknown) => this.#onNoLease(error),
    );
  }

  #onLease(lease: Lease): void {
    const { record, options } = this;
    record.queueMs += options.now() - this.#askedAt;
    record.modelKnown = true;
    const attemptRecord = startAttempt(options, { lease, trace: record.trace });
    record.attempts.push(attemptRecord);
    try {
      this.#running = this.begun(lease, attemptRecord);
    } catch (error) {
      lease.release({ outcome: "broken", ...NOTHING_KNOWN });
      this.#refuse(error);
    }
  }

  #onNoLease(error: unknown): void {
    const { record, options } = this;
    if (this.#askedAt > 0) record.queueMs += options.now() - this.#askedAt;
    this.#askedAt = 0;
    try {
      this.#finish(this.retry.refused(this.refusalOf(error)));
    } catch (refusal) {
      this.#refuse(refusal);
    }
  }

  /** The answer when nothing is tried any more. */
  #finish(failure: AttemptFailure): void {
    const answer = failure.respond();
    if (answer instanceof LlmnodeError) return this.#refuse(answer, true);
    this.#complete(answer.status, failure.message);
    this.answer(answer);
  }

  /** The answer to a request that failed otherwise than by an engine's word. */
  #refuse(error: unknown, withInfo = false): void {
    const why = this.#signal.aborted && !withInfo ? goneBecause(this.#signal) : error;
    const known = why instanceof LlmnodeError ? why : this.call.onBug(why);
    this.#complete(HTTP_MEANING[known.code].status, known.code);
    const answer = errorAnswer(known, this.route.dialect);
    if (withInfo) this.answer(answer);
    else this.#answer(answer);
  }

  #open(status: number, headers: AnswerHeaders, cookies: readonly string[]): ClientStream {
    const client = new ClientStream(this);
    this.#client = client;
    this.#respond(client.body, { status, headers, cookies });
    return client;
  }

  #respond(
    body: WholeAnswer["body"] | ReadableStream<Uint8Array>,
    init: { status: number; headers: AnswerHeaders; cookies: readonly string[] },
  ): void {
    const { status, headers, cookies } = init;
    Object.assign(headers, this.#admission.headers);
    this.call.complete(headers);
    const response = new Response(body, { status, headers });
    for (const cookie of cookies) response.headers.append("set-cookie", cookie);
    this.#response.resolve(response);
  }

  #keepWaiting(now: number): void {
    this.#toldAt = now;
    const client = this.#client ?? this.#open(200, { ...EVENT_STREAM }, []);
    // Only for a client that takes them.
    if (client.waitingSince === null) client.write(KEEP_ALIVE);
  }

  /** Completes the record and hands it over; only the first call counts. */
  #complete(status: number, error: string | null): void {
    if (this.#isComplete) return;
    this.#isComplete = true;
    this.#handlings.delete(this);
    this.retry[Symbol.dispose]();
    const { options, record } = this;
    completeRecord(record, { status, error, watch: this.watch, now: options.now() });
    this.#admission.end(record);
    this.call.onEnd();
    options.onRecord(record);
  }
}

const encoder = new TextEncoder();
const NOTHING_KNOWN = { promptTokens: null, cachedTokens: null, retryAfterMs: null };
