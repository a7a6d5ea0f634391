/** What can end one attempt from outside: its client, the head, and the request's own deadline. */

import { clientGone, type CancelSignal } from "../request/client-request.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { type AttemptFailure, connectionFailure, failureOf } from "../answer/failure.ts";
import type { Continuation, RelayEnd } from "../answer/relay.ts";
import type { LeaseOutcome } from "../../protocol/replica-request.ts";
import type { Lease } from "../request/lease.ts";
import type { BodyContent } from "../request/upstream.ts";
import type { AttemptRecord } from "../record/record.ts";
import type { Usage } from "../record/usage.ts";

export type Attempted =
  | { kind: "answer"; response: Response }
  | { kind: "failure"; failure: AttemptFailure }
  | { kind: "moved" };

export interface AttemptScope {
  /** Aborts with the client, a reschedule or the deadline. */
  readonly signal: AbortSignal;
  /** Ends what is still being done for this attempt. */
  abort(): void;
  /** Whether the request has taken longer than it may. */
  isLate(): boolean;
  /** Gives the lease back and completes the attempt's record; `usage` as far as the engine told it. */
  done(outcome: LeaseOutcome, reported?: EngineReported): void;
  /** Ends an attempt that has no answer. Throws `client_gone`. */
  failed(error: unknown): Attempted;
}

/** What the engine has told beside its answer. */
export interface EngineReported {
  usage?: Usage | null;
  /** When it wants to be asked again. */
  retryAfterMs?: number | null;
}

/** The replica that an answer comes from now. */
export interface Source {
  lease: Lease;
  scope: AttemptScope;
}

/** An answer that begins, and what another replica would need to go on with it. */
export interface BegunAnswer {
  /** The body as the engine got it. */
  sent: BodyContent;
  source: Source;
  headers: (lease: Lease, record: AttemptRecord) => Headers;
  startScope: (lease: Lease, record: AttemptRecord) => AttemptScope;
}

/** An answer that may go on at another replica. */
export interface Resumable extends Continuation {
  source(): Source;
}

export interface ScopeOptions {
  lease: Lease;
  record: AttemptRecord;
  client: CancelSignal;
  /** When the request arrived, by `now`. */
  startedAt: number;
  now: () => number;
  totalTimeoutMs: number | null;
  /** What is asked, in words for the client. */
  subject: "engine" | "service";
  /** Called once when the engine may still be at work on an answer that no client waits for. */
  onAbandoned?: (() => void) | undefined;
}

export function startScope(options: ScopeOptions): AttemptScope {
  const { lease, record, client, now, totalTimeoutMs } = options;
  const controller = new AbortController();
  const { onAbandoned } = options;
  if (onAbandoned) controller.signal.addEventListener("abort", onAbandoned, { once: true });
  let reschedule: "move" | "fail" | "late" | null = null;
  const abort = () => controller.abort();
  const take = (kind: "move" | "fail" | "late") => {
    reschedule = kind;
    controller.abort();
  };
  client.addEventListener("abort", abort);
  lease.onReschedule = take;
  const timer =
    totalTimeoutMs === null
      ? undefined
      : setTimeout(take, options.startedAt + totalTimeoutMs - now(), "late");
  const done = (
    outcome: LeaseOutcome,
    { usage = null, retryAfterMs = null }: EngineReported = {},
  ) => {
    clearTimeout(timer);
    client.removeEventListener("abort", abort);
    lease.onReschedule = null;
    record.outcome = outcome;
    record.endedAt = now();
    const promptTokens = usage?.input ?? null;
    const cachedTokens = usage?.cachedInput ?? null;
    lease.release({ outcome, promptTokens, cachedTokens, retryAfterMs });
  };
  return {
    signal: controller.signal,
    abort,
    isLate: () => reschedule === "late",
    done,
    failed(error) {
      if (client.aborted) {
        done("client_gone");
        controller.abort();
        throw clientGone();
      }
      if (reschedule === "move" || reschedule === "late") {
        done("rescheduled");
        if (reschedule === "move") return { kind: "moved" };
        return { kind: "failure", failure: failureOf(tooLate(), "rescheduled") };
      }
      const failure = connectionFailure(error, options.subject);
      done(failure.outcome);
      // A connection that is still being made, or a body that is still being sent, is no longer needed.
      controller.abort();
      return { kind: "failure", failure };
    },
  };
}

/** How an attempt has ended whose answer was being passed on. */
export function outcomeOf(end: RelayEnd, client: CancelSignal, scope: AttemptScope): LeaseOutcome {
  if (end !== "broken") return end;
  if (client.aborted) return "client_gone";
  return scope.isLate() ? "rescheduled" : "broken";
}

export function tooLate(): LlmnodeError {
  return new LlmnodeError("upstream_timeout", "The request took longer than its time limit.");
}
