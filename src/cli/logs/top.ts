/** The log of an engine as `llmnode top` reads it. */

import { formatLogQuery } from "../../protocol/engine-log.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { getStream, type HeadClient } from "../client/api.ts";
import { readLogEvents } from "./events.ts";

const TAIL = 1000;

export interface Piece {
  lines: { time: string | null; text: string }[];
  skipped: number;
  /** What is still being written, such as a bar of progress. */
  live: string | null;
}

/** Throws what the head says where there is no log; ends with the log or the signal. */
export function topLogs(client: HeadClient) {
  return async function* read(
    wanted: { engine: string; previous: boolean; sinceMs: number | null },
    signal: AbortSignal,
  ): AsyncGenerator<Piece> {
    const { engine, previous, sinceMs } = wanted;
    const worker = engine.replace(/\/\d+$/, "");
    const tail = sinceMs === null ? TAIL : null;
    const query = formatLogQuery({ follow: !previous, tail, sinceMs, previous, from: null });
    const path = `/api/v1/workers/logs?worker=${encodeURIComponent(worker)}&${query}`;
    const response = await getStream(client, path, signal);
    for await (const events of readLogEvents(response.body ?? new ReadableStream())) {
      const piece: Piece = { lines: [], skipped: 0, live: null };
      for (const event of events) {
        if (event.type === "line") piece.lines.push({ time: null, text: event.text });
        else if (event.type === "live") piece.live = event.text;
        else if (event.type === "left_out") piece.skipped += event.lines;
        else if (event.type === "run")
          piece.lines.push({ time: null, text: `-- run of ${event.started_at} --` });
        else if (event.type === "error") throw new LlmnodeError("upstream_broken", event.message);
      }
      yield piece;
    }
  };
}
