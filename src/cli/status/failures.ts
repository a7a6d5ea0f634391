/** Why engines are in trouble and what to do about it, below the tables of `llmnode status`. */

import { cleanLine } from "../../util/text.ts";

export interface FailedEngine {
  id: string;
  state: string;
  reason: string | null;
  failure: string | null;
  hint: string | null;
  evidence: readonly string[];
}

const TROUBLED = new Set(["starting", "unhealthy", "backoff", "failed", "stopped"]);

/**
 * A paragraph for each engine that ended and is not ready again: reason, next step, and with
 * `verbose` the lines of its log that show it. Not cut: half an advice is none.
 */
export function failureLines(engines: readonly FailedEngine[], verbose: boolean): string[] {
  return engines
    .filter((engine) => engine.failure !== null && TROUBLED.has(engine.state))
    .flatMap((engine) => {
      const { id, state, reason, failure, hint, evidence } = engine;
      // While it starts anew, the reason of its last end is gone: the class is still known.
      const why = reason ?? `ended before (${failure})`;
      const lines = ["", cleanLine(`${id} ${state}: ${why}`)];
      if (hint !== null) lines.push(cleanLine(`  next: ${hint}`));
      if (verbose) lines.push(...evidence.map((line) => cleanLine(`  | ${line}`)));
      return lines;
    });
}
