/** `llmnode top` without a terminal: one snapshot, one after the other, JSON, or what changes. */

import { LlmnodeError } from "../protocol/errors.ts";
import type { WatchFrame, WatchQuery } from "../protocol/watch-json.ts";
import { type HeadCalls, wordsOf } from "./client/client.ts";
import { asciiSpan, BLANK, type DrawnLine, type DrawOptions } from "./components/drawn.ts";
import { eventLine } from "./components/events.ts";
import { unmarked, viewTable } from "./components/frame.ts";
import { counterLine, timeOfDay, trafficLine } from "./components/header.ts";
import { modelColumns } from "./components/models.ts";
import { tableLines } from "./components/table.ts";
import { paint, type Palette } from "./text/palette.ts";
import { readEvents } from "./client/sse.ts";
import { clean, textOf } from "./text/styled.ts";

export interface PlainOptions {
  head: HeadCalls;
  query: WatchQuery;
  /** Frames until it ends; null: for ever. */
  frames: number | null;
  format: "text" | "json" | "changes";
  /** JSON of one frame is spread over lines for people. */
  pretty: boolean;
  width: number;
  palette: Palette;
  draw: DrawOptions;
  write: (text: string) => Promise<void>;
  /** Whether the reader has gone. */
  isGone: () => boolean;
  signal: AbortSignal;
}

/** Throws what the head's answer throws, `head_unreachable` when it breaks off. */
export async function runPlain(options: PlainOptions): Promise<void> {
  const { head, query, format } = options;
  const ending = new AbortController();
  const signal = AbortSignal.any([options.signal, ending.signal]);
  let seen = 0;
  let lastEvent = 0;
  try {
    const response = await head.stream(`/api/v1/watch?${wordsOf(query)}`, signal);
    for await (const { event, data } of readEvents(response.body)) {
      if (event !== "frame") continue;
      const frame = JSON.parse(data) as WatchFrame;
      seen += 1;
      if (format === "changes") {
        const text = changesText(frame, { lastEvent, isFirst: seen === 1 });
        lastEvent = Math.max(lastEvent, ...frame.events.map(({ id }) => id));
        if (text !== "") await options.write(text);
      } else await options.write(frameText(frame, options));
      if (options.isGone() || (options.frames !== null && seen >= options.frames)) return;
    }
  } catch (error) {
    if (options.signal.aborted) return;
    throw error;
  } finally {
    ending.abort();
  }
  if (!options.signal.aborted) {
    throw new LlmnodeError("head_unreachable", "the head ended the connection");
  }
}

function frameText(frame: WatchFrame, options: PlainOptions): string {
  if (options.format === "json") {
    return `${JSON.stringify(frame, null, options.pretty && options.frames === 1 ? 2 : 0)}\n`;
  }
  const lines = snapshotLines(frame, options);
  const text = lines.map(({ spans }) => paint(spans, options.palette).trimEnd()).join("\n");
  return options.frames === 1 ? `${text}\n` : `-- ${frame.time}\n${text}\n\n`;
}

/** The whole cluster in lines of one width, without cursor and keys. */
export function snapshotLines(
  frame: WatchFrame,
  { width, draw }: { width: number; draw: DrawOptions },
): DrawnLine[] {
  if (frame.totals.workers.total === 0 && frame.view !== "events")
    return [counterLine(frame, width)];
  const attention = frame.attention.map(({ text }) => ({
    spans: [{ text: clean(text, 400), tone: "broken" as const }],
  }));
  const lines: DrawnLine[] = [
    counterLine(frame, width),
    trafficLine(frame, width),
    BLANK,
    ...tablesOf(frame, { width, draw }),
    ...(attention.length > 0 ? [BLANK, ...attention] : []),
  ];
  return draw.charset === "utf8"
    ? lines
    : lines.map((one) => ({ ...one, spans: one.spans.map(asciiSpan) }));
}

/** The rows of the view; those of workers with the models behind them. */
function tablesOf(
  frame: WatchFrame,
  { width, draw }: { width: number; draw: DrawOptions },
): DrawnLine[] {
  const all = ({ head, rows }: { head: DrawnLine; rows: DrawnLine[] }) => [head, ...rows];
  const how = unmarked(width);
  const lines = all(viewTable(frame, frame.rows, { ...draw, ...how }));
  if (frame.view !== "workers") return lines;
  return [...lines, BLANK, ...all(tableLines(modelColumns(), frame.models_beside, how))];
}

/** For ears: a sentence about the whole at first, later only what has happened. */
export function changesText(
  frame: WatchFrame,
  { lastEvent, isFirst }: { lastEvent: number; isFirst: boolean },
): string {
  if (isFirst) {
    const { workers, models, in_flight, queued } = frame.totals;
    const parts = [
      `${timeOfDay(Date.parse(frame.time))} workers: ${workers.ready} of ${workers.total} ready`,
      `models: ${models.ready} of ${models.total} ready`,
      `requests: ${in_flight} running, ${queued} waiting`,
    ];
    return `${[parts.join(". "), ...frame.attention.map(({ text }) => clean(text, 400))].join("\n")}\n`;
  }
  const fresh = frame.events.filter(({ id }) => id > lastEvent);
  return fresh.map((event) => `${textOf(eventLine(event, 400).spans).trimEnd()}\n`).join("");
}
