/** What API keys may use: taken before a request goes anywhere, given back once at its end. */

import type { KeyLimits } from "../../protocol/caller.ts";
import {
  emptyAfterMs,
  giveBack,
  newWindow,
  sumAt,
  take,
  type Taken,
  waitMs,
  type Window,
} from "./window.ts";

export type LimitName = keyof KeyLimits;

/** What a request is thought to cost before it has run, in tokens. */
export interface LimitAsk {
  prompt: number;
  /** What is set aside for the answer. */
  answer: number;
}

/** How much of a limit is left, after this request. */
export interface Share {
  limit: number;
  remaining: number;
  /** Until nothing of it is used any more. */
  resetMs: number;
}

/** Null: the key has no such limit. */
export interface Shares {
  requests: Share | null;
  tokens: Share | null;
}

export interface Granted extends Shares {
  granted: true;
  /** The request is over and has cost so many tokens; only the first call counts. */
  end(tokens: number, now: number): void;
}

export interface Denied extends Shares {
  granted: false;
  limit: LimitName;
  /** When asking again makes sense; null: never (its prompt alone is too long), or not today. */
  retryAfterMs: number | null;
}

export interface KeyLimiter {
  /** Takes all that the request needs, or nothing. */
  take(key: { id: string; limits: KeyLimits }, ask: LimitAsk, now: number): Granted | Denied;
  /** Tokens that a key had used up today before this head began to count. */
  restore(keyId: string, tokens: number, now: number): void;
  /** Keys that something is remembered of. */
  readonly size: number;
}

export const KEY_LIMITER_DEFAULTS = {
  /** What a minute is. */
  minuteMs: 60_000,
  /** After how long a slot, or what running requests have set aside, may be free again. */
  retryMs: 1000,
};
export type KeyLimiterOptions = typeof KEY_LIMITER_DEFAULTS;

interface KeyState {
  readonly requests: Window;
  readonly tokens: Window;
  running: number;
  /** Set aside for running requests. */
  held: number;
  /** Days since 1970, UTC. */
  day: number;
  usedToday: number;
}

const DAY_MS = 86_400_000;
/** With fewer keys none is dropped of which nothing need be remembered. */
const MIN_SWEEP = 1024;

/** `now` is in milliseconds since 1970, and does not go back. */
export function createKeyLimiter(options: KeyLimiterOptions = KEY_LIMITER_DEFAULTS): KeyLimiter {
  const { minuteMs, retryMs } = options;
  const states = new Map<string, KeyState>();
  let sweepAt = MIN_SWEEP;

  const stateOf = (id: string, now: number): KeyState => {
    const found = states.get(id);
    if (found) {
      const day = Math.floor(now / DAY_MS);
      if (day !== found.day) Object.assign(found, { day, usedToday: 0 });
      return found;
    }
    if (states.size >= sweepAt) {
      for (const [key, state] of states) if (isIdle(state, now)) states.delete(key);
      sweepAt = Math.max(MIN_SWEEP, 2 * states.size);
    }
    const state: KeyState = {
      requests: newWindow(minuteMs),
      tokens: newWindow(minuteMs),
      running: 0,
      held: 0,
      day: Math.floor(now / DAY_MS),
      usedToday: 0,
    };
    states.set(id, state);
    return state;
  };

  return {
    take({ id, limits }, ask, now) {
      if (isUnlimited(limits)) return UNLIMITED;
      const state = stateOf(id, now);
      const need = needOf(limits, ask);
      const { requestsPerMinute, tokensPerMinute } = limits;
      const denial = denialOf({ state, limits, ask, need, retryMs }, now);
      if (denial) {
        return {
          granted: false,
          limit: denial.limit,
          retryAfterMs: denial.retryAfterMs,
          requests: shareOf(state.requests, requestsPerMinute, now),
          tokens: shareOf(state.tokens, tokensPerMinute, now),
        };
      }
      if (requestsPerMinute !== null) take(state.requests, 1, now);
      const taken = tokensPerMinute === null ? null : take(state.tokens, need, now);
      state.running += 1;
      state.held += need;
      let ended = false;
      return {
        granted: true,
        requests: shareOf(state.requests, requestsPerMinute, now),
        tokens: shareOf(state.tokens, tokensPerMinute, now),
        end(tokens, at) {
          if (ended) return;
          ended = true;
          // It is still that state: none is forgotten while something runs.
          stateOf(id, at).usedToday += tokens;
          state.running -= 1;
          state.held -= need;
          if (taken) settle(state.tokens, { taken, need, tokens }, at);
        },
      };
    },
    restore(keyId, tokens, now) {
      stateOf(keyId, now).usedToday += tokens;
    },
    get size() {
      return states.size;
    },
  };
}

const UNLIMITED: Granted = { granted: true, requests: null, tokens: null, end() {} };

function isUnlimited(limits: KeyLimits): boolean {
  return (
    limits.requestsPerMinute === null &&
    limits.tokensPerMinute === null &&
    limits.concurrency === null &&
    limits.tokensPerDay === null
  );
}

/** A prompt that fits may always go some time: what is set aside for answers does not forbid it. */
function needOf({ tokensPerMinute }: KeyLimits, { prompt, answer }: LimitAsk): number {
  return Math.min(prompt + answer, tokensPerMinute ?? Number.MAX_SAFE_INTEGER);
}

function denialOf(
  on: { state: KeyState; limits: KeyLimits; ask: LimitAsk; need: number; retryMs: number },
  now: number,
): Pick<Denied, "limit" | "retryAfterMs"> | null {
  const { state, ask, need, retryMs } = on;
  const { requestsPerMinute, tokensPerMinute, concurrency, tokensPerDay } = on.limits;
  if (tokensPerDay !== null && state.usedToday + state.held >= tokensPerDay) {
    const isUsedUp = state.usedToday >= tokensPerDay;
    return { limit: "tokensPerDay", retryAfterMs: isUsedUp ? null : retryMs };
  }
  if (tokensPerMinute !== null && ask.prompt > tokensPerMinute) {
    return { limit: "tokensPerMinute", retryAfterMs: null };
  }
  if (requestsPerMinute !== null) {
    const wait = waitMs(state.requests, { amount: 1, limit: requestsPerMinute }, now);
    if (wait > 0) return { limit: "requestsPerMinute", retryAfterMs: wait };
  }
  if (tokensPerMinute !== null) {
    const wait = waitMs(state.tokens, { amount: need, limit: tokensPerMinute }, now);
    if (wait > 0) return { limit: "tokensPerMinute", retryAfterMs: wait };
  }
  if (concurrency !== null && state.running >= concurrency) {
    return { limit: "concurrency", retryAfterMs: retryMs };
  }
  return null;
}

/** What was set aside becomes what it was: the rest is free at once, what was more counts from now. */
function settle(
  window: Window,
  { taken, need, tokens }: { taken: Taken; need: number; tokens: number },
  now: number,
): void {
  if (tokens < need) giveBack(window, taken, need - tokens);
  else if (tokens > need) take(window, tokens - need, now);
}

function shareOf(window: Window, limit: number | null, now: number): Share | null {
  if (limit === null) return null;
  const remaining = Math.max(0, limit - sumAt(window, now));
  return { limit, remaining, resetMs: emptyAfterMs(window, now) };
}

function isIdle(state: KeyState, now: number): boolean {
  if (state.running > 0 || sumAt(state.requests, now) > 0 || sumAt(state.tokens, now) > 0) {
    return false;
  }
  return state.usedToday === 0 || state.day !== Math.floor(now / DAY_MS);
}
