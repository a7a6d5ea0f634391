/** Picks the replica for a request. */

import type { Replica } from "./catalog.ts";
import type { Lease, LeaseEnd } from "./state.ts";
import type { Want } from "./want.ts";

/** A replica, and what the request is reckoned to cost there. */
export interface Choice {
  replica: Replica;
  /** Tokens of the prompt, and those of them that its cache is not reckoned to hold. */
  promptTokens: number;
  missTokens: number;
  /** Why this one, in a line for a header; null where nobody wants to know. */
  explanation: string | null;
}

/** What is known of where requests do best; each lease passes through it in this order. */
export interface Router {
  /** Null: there are no candidates. */
  choose(
    candidates: readonly Replica[],
    want: Want,
    at: { now: number; random: () => number },
  ): Choice | null;
  /** The request is about to be sent. */
  sent(lease: Lease, now: number): void;
  /** Its first byte came back; not called where none came. */
  started(lease: Lease, now: number): void;
  /** It is over; always called, once. */
  released(lease: Lease, end: LeaseEnd & { now: number }): void;
}

export function createRouter(): Router {
  return {
    choose(candidates, _want, { random }) {
      const replica = leastInFlight(candidates, random);
      return replica && { replica, promptTokens: 0, missTokens: 0, explanation: null };
    },
    sent() {},
    started() {},
    released() {},
  };
}

/** The least requests in flight on the engine, ties at random: a fixed tie would herd. */
function leastInFlight(candidates: readonly Replica[], random: () => number): Replica | null {
  let best: Replica | null = null;
  let ties = 0;
  for (const replica of candidates) {
    const load = replica.engine.inFlight;
    if (best === null || load < best.engine.inFlight) {
      best = replica;
      ties = 1;
    } else if (load === best.engine.inFlight) {
      ties += 1;
      if (random() * ties < 1) best = replica;
    }
  }
  return best;
}
