/** Follows the log on the screen, and stops when another one is shown, or none. */

import { messageOf } from "../../protocol/errors.ts";
import type { LogPiece, TopEvent } from "../state/event.ts";
import type { LogsState } from "../state/state.ts";

/** Another `take`: the same log again. */
export type LogWanted = Pick<LogsState, "engine" | "previous" | "sinceMs" | "take">;

/** An engine's log, followed unless it is a previous run's. Throws where there is none. */
export type LogSource = (wanted: LogWanted, signal: AbortSignal) => AsyncIterable<LogPiece>;

export interface LogReader extends Disposable {
  /** What is on the screen now; null: no log. */
  follow(logs: LogsState | null): void;
}

export function startLogReader(source: LogSource, onEvent: (event: TopEvent) => void): LogReader {
  let reading: { what: string; abort: AbortController } | null = null;

  const read = async (wanted: LogWanted, abort: AbortController) => {
    const { engine } = wanted;
    let reason = "the end";
    try {
      for await (const piece of source(wanted, abort.signal)) {
        if (abort.signal.aborted) return;
        const { lines, skipped, live = null } = piece;
        if (lines.length > 0 || skipped > 0 || live !== null)
          onEvent({ type: "log", engine, lines, skipped, live });
      }
    } catch (error) {
      reason = messageOf(error);
    }
    if (!abort.signal.aborted) onEvent({ type: "log_ended", engine, reason });
  };

  return {
    follow(logs) {
      const next = logs && {
        engine: logs.engine,
        previous: logs.previous,
        sinceMs: logs.sinceMs,
        take: logs.take,
      };
      const what = JSON.stringify(next);
      if (what === (reading?.what ?? "null")) return;
      reading?.abort.abort();
      reading = null;
      if (next === null) return;
      const abort = new AbortController();
      reading = { what, abort };
      // After the state that asks for it is in place.
      queueMicrotask(() => void read(next, abort));
    },
    [Symbol.dispose]() {
      reading?.abort.abort();
      reading = null;
    },
  };
}
