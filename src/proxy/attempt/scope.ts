/** One attempt at a replica: what it holds, and what can end it from outside. */

import type { CancelSignal } from "../request/client-request.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { type AttemptFailure, connectionFailure, failureOf } from "../answer/failure.ts";
import type { RelayEnd } from "../answer/relay.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import type { Lease } from "../request/lease.ts";
import type { AttemptRecord } from "../record/record.ts";
import type { Usage } from "../record/usage.ts";
import type { AnswerSink, Exchange, HttpRequest } from "../../util/http/exchange.ts";

/** How an attempt has ended that has no answer. */
export type NoAnswer =
  | { kind: "failure"; failure: AttemptFailure }
  /** The head has taken the request away: it is to go elsewhere. */
  | { kind: "moved" }
  /** No client waits any more. */
  | { kind: "gone" };

/** What the engine has told beside its answer. */
export interface EngineReported {
  usage?: Usage | null;
  /** When it wants to be asked again. */
  retryAfterMs?: number | null;
}

export interface ScopeOptions {
  lease: Lease;
  record: AttemptRecord;
  client: CancelSignal;
  now: () => number;
  /** What is asked, in words for the client. */
  subject: "engine" | "service";
  /** Called once when the engine may still be at work on an answer that no client waits for. */
  onAbandoned?: (() => void) | undefined;
}

export class AttemptScope {
  readonly lease: Lease;
  readonly record: AttemptRecord;
  /** Who is told when the client, the head or the deadline has ended it; what was under way is aborted. */
  sink: Pick<AnswerSink, "fail"> | null = null;
  aborted = false;
  readonly #options: ScopeOptions;
  #exchange: Exchange | null = null;
  #taken: "move" | "fail" | "late" | null = null;
  #isDone = false;

  constructor(options: ScopeOptions) {
    this.#options = options;
    this.lease = options.lease;
    this.record = options.record;
    this.lease.onReschedule = (kind) => this.#take(kind);
    options.client.addEventListener("abort", this);
  }

  /** Whether the request has taken longer than it may. */
  get isLate(): boolean {
    return this.#taken === "late";
  }

  /** Sends a request on the lease; not after an end. */
  send(request: HttpRequest, sink: AnswerSink): void {
    if (!this.aborted) this.#exchange = this.lease.upstream(request, sink);
  }

  pause(): void {
    this.#exchange?.pause();
  }

  resume(): void {
    this.#exchange?.resume();
  }

  /** The request has taken longer than it may. */
  late(): void {
    this.#take("late");
  }

  /** Ends what is still being done for this attempt. */
  abort(): void {
    if (this.aborted) return;
    this.aborted = true;
    this.#exchange?.abort();
    this.#options.onAbandoned?.();
  }

  /** Gives the lease back and completes the attempt's record; only the first call counts. */
  done(outcome: LeaseOutcome, { usage = null, retryAfterMs = null }: EngineReported = {}): void {
    if (this.#isDone) return;
    this.#isDone = true;
    const { client, now } = this.#options;
    client.removeEventListener("abort", this);
    this.lease.onReschedule = null;
    this.record.outcome = outcome;
    this.record.endedAt = now();
    const promptTokens = usage?.input ?? null;
    const cachedTokens = usage?.cachedInput ?? null;
    this.lease.release({ outcome, promptTokens, cachedTokens, retryAfterMs });
  }

  /** Ends an attempt that has no answer. */
  failed(error: unknown): NoAnswer {
    const end = this.#endOf(error);
    this.done(end.outcome);
    // A connection that is still being made, or a body that is still being sent, is no longer needed.
    this.abort();
    return end.how;
  }

  /** How an attempt has ended whose answer was being passed on. */
  outcomeOf(end: RelayEnd): LeaseOutcome {
    if (end !== "broken") return end;
    if (this.#options.client.aborted) return "client_gone";
    return this.isLate ? "rescheduled" : "broken";
  }

  #endOf(error: unknown): { outcome: LeaseOutcome; how: NoAnswer } {
    if (this.#options.client.aborted) return { outcome: "client_gone", how: { kind: "gone" } };
    if (this.#taken === "move") return { outcome: "rescheduled", how: { kind: "moved" } };
    const failure = this.isLate
      ? failureOf(tooLate(), "rescheduled")
      : connectionFailure(error, this.#options.subject);
    return { outcome: failure.outcome, how: { kind: "failure", failure } };
  }

  #take(kind: "move" | "fail" | "late"): void {
    this.#taken ??= kind;
    this.interrupt();
  }

  /** Ends it where it is, and says so to who waits for it. */
  interrupt(): void {
    if (this.#isDone) return;
    this.abort();
    this.sink?.fail(interrupted());
  }

  /** The client has gone, or an operator has ended its request. */
  handleEvent(): void {
    this.interrupt();
  }
}

/** What the sink of an attempt is told that was ended from outside. */
export function interrupted(): Error {
  return new Error("the attempt was ended");
}

export function tooLate(): LlmnodeError {
  return new LlmnodeError("upstream_timeout", "The request took longer than its time limit.");
}
