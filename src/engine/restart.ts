/** Decides when a crashed engine is started again, from its past alone. */

export interface EngineEnd {
  /** How long it had been ready without a break when it ended; 0 if it never was. */
  readyMs: number;
}

export interface RestartPolicy {
  backoffFirstMs: number;
  backoffMaxMs: number;
  backoffResetMs: number;
}

export interface RestartDecision {
  action: "restart";
  delayMs: number;
}

/** Ends worth remembering: more would not change a decision. */
export const MAX_ENDS = 32;

/**
 * What to do after the last of `ends` (oldest first): the wait doubles with each crash in a row,
 * and a run that was ready for `backoffResetMs` starts anew.
 */
export function decideRestart(ends: readonly EngineEnd[], policy: RestartPolicy): RestartDecision {
  const lastGood = ends.findLastIndex((end) => end.readyMs >= policy.backoffResetMs);
  const inARow = lastGood < 0 ? ends.length : ends.length - lastGood;
  const doubled = policy.backoffFirstMs * 2 ** Math.max(0, Math.min(inARow, MAX_ENDS) - 1);
  return { action: "restart", delayMs: Math.min(policy.backoffMaxMs, doubled) };
}
