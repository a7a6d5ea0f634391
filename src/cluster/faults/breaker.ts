/** Keeps requests from an engine that fails them, and lets one through now and then to see. */

import type { LeaseOutcome } from "../../protocol/replica-request.ts";

export const BREAKER_LIMITS = {
  /** Failures in a row that open it. */
  failures: 5,
  /** It opens too where half of at least so many answers within `windowMs` were failures. */
  windowAnswers: 10,
  windowMs: 30_000,
  /** How long it is open at first, and at most: each time that it opens again doubles it. */
  openMs: 5000,
  maxOpenMs: 60_000,
};
export type BreakerLimits = typeof BREAKER_LIMITS;

export type Breaker =
  | { state: "closed"; inARow: number; windows: [Window, Window] }
  | { state: "open"; until: number; openMs: number }
  /** `probe`: the lease that tries it; null: it waits for one. */
  | { state: "half_open"; openMs: number; probe: number | null };

/** Half of the time that counts; a full one moves to the second place. */
interface Window {
  since: number;
  answers: number;
  failures: number;
}

export type BreakerEvent =
  /** A request was sent there. */
  | { type: "sent"; lease: number }
  /** The engine has answered, whatever it said. */
  | { type: "answered" }
  /** The connection failed, or what stands before the engine said that the engine does not answer. */
  | { type: "failed" }
  /** The request ended without telling anything of the engine. */
  | { type: "unknown"; lease: number }
  /** Its process ended by itself. */
  | { type: "crashed" }
  /** A new process is ready. */
  | { type: "renewed" };

export interface BreakerContext {
  now: number;
  limits: BreakerLimits;
  /** Whether it may open: at most half of a model's replicas may be, and never the last one. */
  mayOpen: () => boolean;
}

export function newBreaker(now: number): Breaker {
  const empty = (): Window => ({ since: now, answers: 0, failures: 0 });
  return { state: "closed", inARow: 0, windows: [empty(), empty()] };
}

/** What the end of a lease says of its engine; an answer is an answer, also when it is an error. */
export function eventOf(outcome: LeaseOutcome): "answered" | "failed" | "unknown" {
  switch (outcome) {
    case "unreachable":
    case "broken":
    case "bad_gateway":
      return "failed";
    case "ok":
    case "rejected":
    case "busy":
    case "auth":
    case "engine_error":
      return "answered";
    case "rescheduled":
    case "slow_client":
    case "client_gone":
      return "unknown";
  }
}

/** What follows from an event. A closed breaker counts in place: it is on every request's way. */
export function transition(before: Breaker, event: BreakerEvent, context: BreakerContext): Breaker {
  const { now, limits } = context;
  const breaker = breakerAt(before, now);
  switch (event.type) {
    case "sent":
      if (breaker.state !== "half_open" || breaker.probe !== null) return breaker;
      return { ...breaker, probe: event.lease };
    case "unknown":
      if (breaker.state !== "half_open" || breaker.probe !== event.lease) return breaker;
      return { ...breaker, probe: null };
    case "answered":
      if (breaker.state === "closed") return countAnswer(breaker, context);
      // What was sent before it opened says nothing of now.
      return breaker.state === "half_open" ? newBreaker(now) : breaker;
    case "failed":
      if (breaker.state === "open") return breaker;
      if (breaker.state === "closed") return countFailure(breaker, context);
      return opened(Math.min(limits.maxOpenMs, 2 * breaker.openMs), now);
    case "crashed":
      return breaker.state === "open" ? breaker : opened(limits.openMs, now);
    case "renewed":
      return newBreaker(now);
  }
}

/** The breaker once time has done its part. */
export function breakerAt(breaker: Breaker, now: number): Breaker {
  if (breaker.state !== "open" || now < breaker.until) return breaker;
  return { state: "half_open", openMs: breaker.openMs, probe: null };
}

/** Whether a request may go there. */
export function admits(breaker: Breaker, now: number): boolean {
  switch (breaker.state) {
    case "closed":
      return true;
    case "open":
      return now >= breaker.until;
    case "half_open":
      return breaker.probe === null;
  }
}

type Closed = Extract<Breaker, { state: "closed" }>;

function countAnswer(breaker: Closed, { now, limits }: BreakerContext): Breaker {
  breaker.inARow = 0;
  windowAt(breaker, now, limits).answers += 1;
  return breaker;
}

function countFailure(breaker: Closed, { now, limits, mayOpen }: BreakerContext): Breaker {
  const current = windowAt(breaker, now, limits);
  current.answers += 1;
  current.failures += 1;
  breaker.inARow += 1;
  const [a, b] = breaker.windows;
  const answers = a.answers + b.answers;
  const isHalf = answers >= limits.windowAnswers && 2 * (a.failures + b.failures) >= answers;
  if (breaker.inARow < limits.failures && !isHalf) return breaker;
  return mayOpen() ? opened(limits.openMs, now) : breaker;
}

function windowAt(breaker: Closed, now: number, { windowMs }: BreakerLimits): Window {
  const [current] = breaker.windows;
  if (now - current.since < windowMs / 2) return current;
  const next: Window = { since: now, answers: 0, failures: 0 };
  const isOld = now - current.since >= windowMs;
  breaker.windows = [next, isOld ? { ...next } : current];
  return next;
}

function opened(openMs: number, now: number): Breaker {
  return { state: "open", until: now + openMs, openMs };
}
