/** Where a reader of an engine's log begins and where it ends, from what it asks for. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { LogQuery } from "../../protocol/engine-log.ts";
import type { LogIndex } from "./log-index.ts";
import { endOf, lineStartAt, nextLineStart, type OpenLog, tailStart } from "./places.ts";

export interface Range {
  position: number;
  end: number;
  /** Of the runs that begin right at `position`: this many were reported already. */
  runsReported: number;
}

/** Throws `not_found` where there is no previous run. */
export async function rangeOf(log: OpenLog, query: LogQuery, signal: AbortSignal): Promise<Range> {
  const { index } = log;
  const resumed = resumeAt(log, query.from);
  const newest = endOf(log);
  if (resumed !== null) return { ...resumed, end: endFor(query, newest) };
  const { begin, end } = query.previous
    ? previousRun(index)
    : { begin: index.floor, end: endFor(query, newest) };
  const last = Math.min(end, newest);
  // What is left of a log that was cut begins within a line.
  const whole = begin === index.floor && begin > 0 ? (nextLineStart(log, begin) ?? begin) : begin;
  const from =
    query.sinceMs === null
      ? whole
      : Math.max(whole, lineStartAt(log, index.positionAt(Date.now() - query.sinceMs)));
  const runsReported = index.runs.length;
  if (query.tail === null) return { position: Math.min(from, last), end, runsReported };
  const wanted = { from, to: last, lines: query.tail };
  return { position: await tailStart(log, wanted, signal), end, runsReported };
}

function endFor({ follow }: LogQuery, newest: number): number {
  return follow ? Number.POSITIVE_INFINITY : newest;
}

function resumeAt(log: OpenLog, from: string | null): Omit<Range, "end"> | null {
  const [id, at, runsReported] = from?.split(":") ?? [];
  const position = Number(at);
  if (id !== log.index.id || position > endOf(log)) return null;
  return { position, runsReported: Number(runsReported) };
}

export function runsAt({ runs }: LogIndex, position: number): LogIndex["runs"] {
  return runs.filter((run) => run.position === position);
}

/** Throws `not_found`. */
function previousRun({ runs, floor }: LogIndex): { begin: number; end: number } {
  const end = runs.at(-1)?.position ?? 0;
  const start = runs.at(-2)?.position ?? 0;
  if (runs.length > 0 && Math.max(start, floor) < end)
    return { begin: Math.max(start, floor), end };
  const message =
    start < end
      ? "the output of the run before this one is not kept any more"
      : "there was no run before this one";
  throw new LlmnodeError("not_found", message);
}
