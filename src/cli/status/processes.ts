/** What `llmnode status -v` shows of the processes behind engines. */

import { type Fields, number, text } from "../base/json-fields.ts";

export interface ProcessView {
  pid: number | null;
  container: string | null;
  restarts: number | null;
  /** Whether its worker took it over, running, from an earlier life of itself. */
  adopted: boolean;
}

/** From an engine's JSON. */
export function readProcess(engine: Fields): ProcessView {
  return {
    pid: number(engine["pid"]),
    container: text(engine["container"]),
    restarts: number(engine["restarts"]),
    adopted: engine["adopted"] === true,
  };
}

/** A row for each engine of which a process is known. */
export function processTable(
  engines: readonly { id: string; process: ProcessView }[],
): [readonly string[], string[][]] {
  const rows = engines.flatMap(({ id, process: { pid, container, restarts, adopted } }) => {
    if (pid === null && container === null) return [];
    const start = adopted ? "adopted" : "by this worker";
    return [[id, String(pid ?? "-"), container ?? "-", String(restarts ?? "?"), start]];
  });
  return [["ENGINE", "PID", "CONTAINER", "RESTARTS", "STARTED"], rows];
}
