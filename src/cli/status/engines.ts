/** What `llmnode status` shows of engines below its tables: why they are in trouble, and their processes. */

import type { EngineRow } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";

/** In trouble, whether it will be started again. */
export function stateWord({ state, engine_state }: EngineRow): string {
  return state === "failed" ? engine_state : state;
}

const TROUBLED = new Set<EngineRow["engine_state"]>([
  "starting",
  "unhealthy",
  "backoff",
  "failed",
  "stopped",
]);

/**
 * A paragraph for each engine that ended and is not ready again: reason, next step, and with
 * `verbose` the lines of its log that show it. Not cut: half an advice is none.
 */
export function failureLines(engines: readonly EngineRow[], verbose: boolean): string[] {
  return engines
    .filter((engine) => engine.failure !== null && TROUBLED.has(engine.engine_state))
    .flatMap((engine) => {
      const { name, reason, failure, hint, evidence } = engine;
      // While it starts again, the reason of its last end is gone: the class is still known.
      const why = reason ?? `ended before (${failure})`;
      const lines = ["", cleanLine(`${name} ${engine.engine_state}: ${why}`)];
      if (hint !== null) lines.push(cleanLine(`  next: ${hint}`));
      if (verbose) lines.push(...evidence.map((line) => cleanLine(`  | ${line}`)));
      return lines;
    });
}

/** A row for each engine of which a process is known. */
export function processTable(engines: readonly EngineRow[]): [readonly string[], string[][]] {
  const rows = engines.flatMap(({ name, pid, container, restarts, adopted }) => {
    if (pid === null && container === null) return [];
    const start = adopted ? "adopted" : "by this worker";
    return [[name, String(pid ?? "-"), container ?? "-", String(restarts), start]];
  });
  return [["ENGINE", "PID", "CONTAINER", "RESTARTS", "STARTED"], rows];
}
