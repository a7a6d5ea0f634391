/** The ways in which replicas are picked, and which model is served in which way. */

import { globMatcher } from "../../util/glob.ts";
import type { Replica } from "../state/state.ts";
import { SCORE_TUNING, type ScoreTuning } from "./score.ts";

export const POLICIES = [
  "auto",
  "least-load",
  "power-of-two",
  "round-robin",
  "random",
  "sticky",
] as const;

/**
 * `auto`: the score of prompt caches and load. `least-load`: the load alone. `power-of-two`: the less
 * loaded of two picked at random. `sticky`: a conversation stays where it is, while that place has
 * no more than its share.
 */
export type Policy = (typeof POLICIES)[number];

export interface RouteSettings {
  /** For models without a rule of their own. */
  policy: Policy;
  /** By model, `*` for any run of characters; the last one that fits counts. */
  rules: readonly { pattern: string; policy: Policy }[];
  tuning: ScoreTuning;
}

export const ROUTE_SETTINGS: RouteSettings = { policy: "auto", rules: [], tuning: SCORE_TUNING };

/** Models whose policy is remembered; of more, the rules are read again. */
const MAX_REMEMBERED = 4096;

export function policyFinder({ policy, rules }: RouteSettings): (model: string) => Policy {
  if (rules.length === 0) return () => policy;
  const matchers = rules.map((rule) => ({ ...rule, matches: globMatcher(rule.pattern) }));
  const remembered = new Map<string, Policy>();
  return (model) => {
    const known = remembered.get(model);
    if (known !== undefined) return known;
    const found = matchers.findLast(({ matches }) => matches(model))?.policy ?? policy;
    if (remembered.size < MAX_REMEMBERED) remembered.set(model, found);
    return found;
  };
}

export function pickRandom(candidates: readonly Replica[], random: () => number): Replica | null {
  return candidates[Math.floor(random() * candidates.length)] ?? null;
}

/** Two different ones at random, or the only one. */
export function pickTwo(candidates: readonly Replica[], random: () => number): readonly Replica[] {
  if (candidates.length <= 2) return candidates;
  const first = Math.floor(random() * candidates.length);
  const second = Math.floor(random() * (candidates.length - 1));
  const other = second >= first ? second + 1 : second;
  return [candidates[first], candidates[other]].filter((replica) => replica !== undefined);
}

/** Whose turn it is among the replicas of one model. */
export interface Turns {
  /** The one that was served the longest time ago; those that never were come first. */
  next(candidates: readonly Replica[]): Replica | null;
  served(engineKey: string): void;
}

/** Engines whose turn is remembered. */
const MAX_TURNS = 4096;

/** Goes by what was sent, not by places in a list: lists are rebuilt whenever a worker speaks. */
export function createTurns(): Turns {
  let turn = 0;
  const servedAt = new Map<string, number>();
  return {
    next(candidates) {
      let best: Replica | null = null;
      let bestTurn = Number.POSITIVE_INFINITY;
      for (const replica of candidates) {
        const at = servedAt.get(replica.engine.key) ?? 0;
        if (at > bestTurn) continue;
        if (at === bestTurn && best !== null && replica.engine.key >= best.engine.key) continue;
        best = replica;
        bestTurn = at;
      }
      return best;
    },
    served(engineKey) {
      turn += 1;
      servedAt.delete(engineKey);
      servedAt.set(engineKey, turn);
      const [oldest] = servedAt.keys();
      if (servedAt.size > MAX_TURNS && oldest !== undefined) servedAt.delete(oldest);
    },
  };
}

/** How much more than its share a replica may have before a conversation leaves it. */
const STICKY_BOUND = 1.25;

/**
 * Rendezvous hashing with bounded loads: each conversation has its own order of the replicas, which
 * changes only by those that come and go, and takes the first that has not more than its share.
 */
export function pickSticky(candidates: readonly Replica[], session: string): Replica | null {
  const seed = Bun.hash.xxHash32(session);
  let total = 1;
  for (const { engine } of candidates) total += engine.inFlight;
  const bound = Math.ceil((STICKY_BOUND * total) / candidates.length);
  let best: Replica | null = null;
  let bestRank = -1;
  for (const replica of candidates) {
    if (replica.engine.inFlight + 1 > bound) continue;
    const rank = Bun.hash.xxHash32(replica.engine.key, seed);
    if (rank <= bestRank) continue;
    best = replica;
    bestRank = rank;
  }
  return best;
}
