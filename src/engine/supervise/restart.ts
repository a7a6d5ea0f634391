/** Decides what follows when an engine has ended unasked, from its past alone. */

import type { RestartMode } from "../spec.ts";

export interface EngineEnd {
  /** How long it had been ready without a break when it ended; 0 if it never was. */
  readyMs: number;
  /** Unix time in ms. */
  endedAtMs: number;
  /** The exit code; null: a signal, not known, or it could not be started at all. */
  code: number | null;
  /** Whether the next start would end in the same way unless somebody changes something. */
  isDeterministic: boolean;
}

export interface RestartPolicy {
  restart: RestartMode;
  backoffFirstMs: number;
  backoffMaxMs: number;
  backoffResetMs: number;
  failuresUntilFailed: number;
}

export type RestartDecision =
  /** Start it again after this long. */
  | { action: "restart"; delayMs: number }
  /** Starting it again is of no use until somebody changes something. */
  | { action: "give_up" }
  /** It is not to be started again; `isDone`: it did what it was there for. */
  | { action: "end"; isDone: boolean };

/** Ends worth remembering: more would not change a decision. */
export const MAX_ENDS = 32;

/**
 * What to do at `now` (Unix time in ms) after the last of `ends` (oldest first): the wait doubles
 * with each crash in a row, counts from the end, and starts over after a run that was ready for
 * `backoffResetMs`.
 */
export function decideRestart(
  ends: readonly EngineEnd[],
  policy: RestartPolicy,
  now: number,
): RestartDecision {
  const last = ends.at(-1);
  if (last === undefined) return { action: "restart", delayMs: 0 };
  const isDone = last.code === 0 && policy.restart === "on-failure";
  if (isDone || policy.restart === "no") return { action: "end", isDone };
  const lastOther = ends.findLastIndex((end) => !end.isDeterministic);
  if (ends.length - 1 - lastOther >= policy.failuresUntilFailed) return { action: "give_up" };
  const lastGood = ends.findLastIndex((end) => end.readyMs >= policy.backoffResetMs);
  const inARow = lastGood < 0 ? ends.length : ends.length - lastGood;
  const doubled = policy.backoffFirstMs * 2 ** Math.max(0, Math.min(inARow, MAX_ENDS) - 1);
  const waitedMs = Math.max(0, now - last.endedAtMs);
  return {
    action: "restart",
    delayMs: Math.max(0, Math.min(policy.backoffMaxMs, doubled) - waitedMs),
  };
}
