/** What a request is reckoned to wait on a replica, in seconds; the least is the best. */

import type { Replica } from "../state/state.ts";
import { cleanLine } from "../../util/text.ts";

/**
 * How the parts are weighed. Too large a `g` is as bad as no affinity, too small a one lets one shared prompt skew the fleet;
 * `k` = 1 is four to six times worse under overload. `scripts/bench.ts routing` shows it.
 */
export const SCORE_TUNING = {
  /** Seconds that one more running request costs those that run beside it. */
  g: 0.1,
  /** How much the reading of a prompt weighs that another replica would not have to read. */
  k: 8,
};
export type ScoreTuning = typeof SCORE_TUNING;

/** How a replica stands to a request. */
export interface ScoreInput {
  /** Prompt tokens sent to the engine that are not cached and whose first byte is not back. */
  pendingTokens: number;
  /** Requests that run on the engine, from any sender. */
  active: number;
  /** How fast the engine reads prompts. */
  tokensPerS: number;
  promptTokens: number;
  /** Of them, those that the replica holds in its cache, and the most that any candidate holds. */
  hitTokens: number;
  mostHitTokens: number;
  /** How long its model takes until it is loaded. */
  loadS: number;
}

/** `k` = 0 and no hits: the least load. */
export function scoreOf(at: ScoreInput, { g, k }: ScoreTuning): number {
  const { pendingTokens, promptTokens, hitTokens, mostHitTokens } = at;
  const tokens = pendingTokens + promptTokens - hitTokens + k * (mostHitTokens - hitTokens);
  return tokens / at.tokensPerS + g * at.active + at.loadS;
}

/** Replicas that an explanation names. */
const MAX_NAMED = 8;

export interface Scored {
  replica: Replica;
  input: ScoreInput;
}

/** A decision in one line of ASCII, for a header; workers by name, never by address. */
export function explainScores(
  policy: string,
  chosen: Replica,
  { scored, tuning }: { scored: readonly Scored[]; tuning: ScoreTuning },
): string {
  const ordered = scored
    .map((entry) => ({ ...entry, score: scoreOf(entry.input, tuning) }))
    .sort((a, b) => a.score - b.score);
  const parts = ordered
    .slice(0, MAX_NAMED)
    .map(({ replica, input, score }) => explainOne(replica, { input, score, tuning }));
  const more = ordered.length - parts.length;
  if (more > 0) parts.push(`${more} more`);
  return `${explainPlain(policy, chosen, scored.length)}; ${parts.join("; ")}`;
}

export function explainPlain(policy: string, chosen: Replica, candidates: number): string {
  return `${policy}: ${nameOf(chosen)} of ${candidates}`;
}

function explainOne(
  replica: Replica,
  { input: at, score, tuning }: { input: ScoreInput; score: number; tuning: ScoreTuning },
): string {
  const seconds = (tokens: number) => (tokens / at.tokensPerS).toFixed(3);
  const lost = tuning.k * (at.mostHitTokens - at.hitTokens);
  const hit = `hit ${Math.round(at.hitTokens)}/${Math.round(at.promptTokens)}`;
  return [
    `${nameOf(replica)} ${score.toFixed(3)}s =`,
    `pending ${seconds(at.pendingTokens)} + miss ${seconds(at.promptTokens - at.hitTokens)}`,
    `+ active ${(tuning.g * at.active).toFixed(3)} + lost ${seconds(lost)}`,
    `+ load ${at.loadS.toFixed(1)} (${hit} tokens, ${Math.round(at.tokensPerS)} tokens/s)`,
  ].join(" ");
}

function nameOf({ worker, engine }: Replica): string {
  return cleanLine(`${worker.name}/${engine.number}`, 80).replace(/[^\x20-\x7e]/g, "?");
}
