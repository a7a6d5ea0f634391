/** Finds the line that tells the cause of an end among those that only tell its consequences. */

import { isVerdict } from "./log-lines.ts";
import { isHarmless, RULES, type Rule } from "./rules.ts";

export interface Cause {
  rule: Rule;
  /** Which line explains it, counted from 0. */
  detail: number;
}

/**
 * The last line of the lowest rank. Where there is none but "something died inside", the exception
 * above it is what it speaks of. Null: no line fits a rule.
 */
export function findCause(lines: readonly string[]): Cause | null {
  let best: Cause | null = null;
  for (const [at, line] of lines.entries()) {
    const rule = ruleOf(line);
    if (!rule || (best && rule.rank > best.rule.rank)) continue;
    best = { rule, detail: rule.next === true && lines[at + 1] !== undefined ? at + 1 : at };
  }
  if (best?.rule.rank !== 3) return best;
  const root = lines
    .slice(0, best.detail + 1)
    .findLastIndex((line) => isVerdict(line) && !isHarmless(line) && ruleOf(line)?.rank !== 3);
  return root < 0 ? best : { rule: best.rule, detail: root };
}

/** Whether a line tells of a known cause. */
export function isTelling(line: string): boolean {
  return ruleOf(line) !== null;
}

function ruleOf(line: string): Rule | null {
  if (isHarmless(line)) return null;
  return RULES.find((rule) => rule.pattern.test(line)) ?? null;
}
