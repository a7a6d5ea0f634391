/** Reads an engine's log for a client, at its pace: from where it wants, with what is left out. */

import { closeSync, openSync } from "node:fs";
import { LlmnodeError, systemCode } from "../../protocol/errors.ts";
import type { LogEvent, LogQuery } from "../../protocol/engine-log.ts";
import { maskSecrets } from "../../util/mask.ts";
import { sleep } from "../../util/sleep.ts";
import { cleanLine } from "../../util/text.ts";
import { countLines, foldLines, type LineFolder } from "./line-splitter.ts";
import type { LogIndex } from "./log-index.ts";
import { endOf, lineAt, nextLineStart, type OpenLog, readAt } from "./places.ts";
import { rangeOf, runsAt } from "./range.ts";

export const LOG_READER_DEFAULTS = {
  /** Between two polls for what is new. */
  pollMs: 150,
  /** How much farther than before a follower may fall behind before it skips. */
  maxBehindBytes: 1024 * 1024,
  /** What a follower that skips is still shown of the past. */
  skipKeepBytes: 64 * 1024,
  lineMaxBytes: 16 * 1024,
  /** How long `next` waits at most. */
  beatMs: 10_000,
};

export type LogReaderSettings = typeof LOG_READER_DEFAULTS;

export interface LogReader {
  /**
   * What comes next, bounded; nothing after `beatMs` without news; null: there is no more. Rejects
   * with the signal's reason. The reader ends with the signal, or with null.
   */
  next(): Promise<LogEvent[] | null>;
}

const PIECE_BYTES = 16 * 1024;

/** Throws `not_found` where there is no previous run, or no output at all. */
export async function openLogReader(
  index: LogIndex,
  query: LogQuery,
  options: { signal: AbortSignal; settings?: Partial<LogReaderSettings> },
): Promise<LogReader> {
  const { signal } = options;
  const settings = { ...LOG_READER_DEFAULTS, ...options.settings };
  signal.throwIfAborted();
  const fd = openFile(index.path);
  let isOpen = true;
  const close = () => {
    if (isOpen) closeSync(fd);
    isOpen = false;
    signal.removeEventListener("abort", close);
  };
  signal.addEventListener("abort", close);
  try {
    const reader = await startReading({ index, fd }, query, { settings, signal });
    return {
      async next() {
        const events = await reader();
        if (events === null) close();
        return events;
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

type Next = () => Promise<LogEvent[] | null>;

interface Reading {
  readonly log: OpenLog;
  readonly query: LogQuery;
  readonly settings: LogReaderSettings;
  readonly signal: AbortSignal;
  readonly buffer: Uint8Array;
  readonly end: number;
  folder: LineFolder;
  position: number;
  /** Line ends before the position. */
  line: number;
  /** Where the unfinished line begins: a reader that comes back goes on there. */
  lineStart: number;
  maxLag: number;
  /** The gaps and runs up to the position. */
  known: ReadonlySet<object>;
  /** The unfinished line and the place that a follower was told last. */
  shown: string;
  reportedPlace: string;
}

async function startReading(
  log: OpenLog,
  query: LogQuery,
  { settings, signal }: { settings: LogReaderSettings; signal: AbortSignal },
): Promise<Next> {
  const { position, end, runsReported } = await rangeOf(log, query, signal);
  const known = reached(log.index, query, { position, end });
  for (const run of runsAt(log.index, position).slice(runsReported)) known.delete(run);
  const reading: Reading = {
    ...{ log, query, settings, signal, end, known, position, lineStart: position },
    buffer: new Uint8Array(PIECE_BYTES),
    folder: foldLines(settings.lineMaxBytes),
    line: await lineAt(log, position, signal),
    maxLag: Number.POSITIVE_INFINITY,
    shown: "",
    reportedPlace: "",
  };
  let isOver = false;
  return async () => {
    if (isOver) return null;
    const began = performance.now();
    for (;;) {
      signal.throwIfAborted();
      const before = reading.position;
      const events = await step(reading);
      if (query.follow) events.push(...status(reading));
      if (events.length > 0) return events;
      if (reading.position !== before) continue;
      if (!query.follow) {
        isOver = true;
        return [...lineEvents(reading, reading.folder.flush()), { type: "end" }];
      }
      if (performance.now() - began >= settings.beatMs) return [];
      await sleep(settings.pollMs, signal);
    }
  };
}

async function step(reading: Reading): Promise<LogEvent[]> {
  const { log, query, settings, folder } = reading;
  const { index } = log;
  const end = Math.min(reading.end, endOf(log));
  const lag = end - reading.position;
  if (query.follow) {
    // What is still busy with the past may stay as far behind as that is, but no farther.
    reading.maxLag = Math.min(reading.maxLag, lag + settings.maxBehindBytes);
    if (lag > reading.maxLag) {
      return skipTo(reading, Math.max(index.floor, end - settings.skipKeepBytes));
    }
  }
  if (reading.position < index.floor) return skipTo(reading, index.floor);
  const news = cross(reading);
  if (news.length > 0) return news;
  if (lag <= 0) return [];
  const { position } = reading;
  const stops = [...index.gaps, ...index.runs].filter((stop) => stop.position > position);
  const limit = Math.min(end, ...stops.map((stop) => stop.position));
  const piece = reading.buffer.subarray(0, Math.min(PIECE_BYTES, limit - position));
  const bytes = readAt(log, position, piece);
  const found = lineEvents(reading, folder.push(bytes));
  reading.line += countLines(bytes);
  const lastEnd = bytes.lastIndexOf(0x0a);
  if (lastEnd !== -1) reading.lineStart = position + lastEnd + 1;
  reading.position += bytes.length;
  return bytes.length > 0 ? [...found, ...cross(reading)] : found;
}

/** Goes on farther behind: the start of a line, at `target` or soon after. */
async function skipTo(reading: Reading, target: number): Promise<LogEvent[]> {
  const { log, settings, signal } = reading;
  const start = nextLineStart(log, target);
  reading.position = start ?? target;
  reading.lineStart = reading.position;
  reading.folder = foldLines(settings.lineMaxBytes);
  if (start === null) reading.folder.skipToNextLine();
  const at = await lineAt(log, reading.position, signal);
  const left = at - reading.line + (start === null ? 1 : 0);
  reading.line = at;
  const { lostBytes, runs } = passStops(reading);
  const gap: LogEvent[] =
    left > 0 || lostBytes > 0
      ? [{ type: "left_out", lines: Math.max(0, left), lost_bytes: lostBytes }]
      : [];
  return [...gap, ...runs.slice(-1).map(runEvent)];
}

/** Gaps and runs up to here that were not reported yet; the last may have come since. */
function cross(reading: Reading): LogEvent[] {
  const { folder } = reading;
  const { gaps, runs, lostBytes } = passStops(reading);
  if (gaps.length + runs.length === 0) return [];
  const rest = lineEvents(reading, folder.flush());
  reading.lineStart = reading.position;
  if (gaps.length > 0) folder.skipToNextLine();
  const gap: LogEvent[] =
    lostBytes > 0 ? [{ type: "left_out", lines: 0, lost_bytes: lostBytes }] : [];
  return [...rest, ...gap, ...runs.map(runEvent)];
}

/** The gaps and runs up to here that were not passed yet. */
function passStops(reading: Reading) {
  const { index } = reading.log;
  const before = reading.known;
  const now = reached(index, reading.query, reading);
  reading.known = now;
  const isNew = (stop: object) => now.has(stop) && !before.has(stop);
  const gaps = index.gaps.filter(isNew);
  const lostBytes = gaps.reduce((bytes, gap) => bytes + gap.bytes, 0);
  return { gaps, lostBytes, runs: index.runs.filter(isNew) };
}

/** The gaps and runs up to `position`; of the previous run's end nothing is asked. */
function reached(
  index: LogIndex,
  { previous }: LogQuery,
  { position, end }: { position: number; end: number },
): Set<object> {
  return new Set<object>(
    [...index.gaps, ...index.runs].filter(
      (stop) => stop.position <= position && !(previous && stop.position >= end),
    ),
  );
}

/** What a follower is told beside the lines. */
function status(reading: Reading): LogEvent[] {
  const { log, lineStart, known } = reading;
  const events: LogEvent[] = [];
  const live = clean(reading, reading.folder.live());
  if (live !== reading.shown && live !== "") events.push({ type: "live", text: live });
  reading.shown = live;
  const runsReported = runsAt(log.index, lineStart).filter((run) => known.has(run)).length;
  const place = `${log.index.id}:${lineStart}:${runsReported}`;
  if (place !== reading.reportedPlace) events.push({ type: "position", position: place });
  reading.reportedPlace = place;
  return events;
}

function lineEvents(reading: Reading, texts: readonly string[]): LogEvent[] {
  return texts.map((text) => ({ type: "line", text: clean(reading, text) }));
}

function clean({ settings }: Reading, text: string): string {
  return maskSecrets(cleanLine(text, settings.lineMaxBytes));
}

function runEvent({ id, startedAt }: { id: string; startedAt: number }): LogEvent {
  return { type: "run", run: id, started_at: new Date(startedAt).toISOString() };
}

/** Throws `not_found`. */
function openFile(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    throw new LlmnodeError("not_found", "the engine was not started yet");
  }
}
