/** Reads an engine's log for somebody, at their pace: from where they want it, with what is left out. */

import { closeSync, openSync } from "node:fs";
import { LlmnodeError, systemCode } from "../../protocol/errors.ts";
import type { LogEvent, LogQuery } from "../../protocol/engine-log.ts";
import { maskSecrets } from "../../util/mask.ts";
import { sleep } from "../../util/sleep.ts";
import { cleanLine } from "../../util/text.ts";
import { countLines, foldLines } from "./line-splitter.ts";
import type { LogIndex } from "./log-index.ts";
import {
  endOf,
  lineAt,
  lineStartAt,
  nextLineStart,
  type OpenLog,
  readAt,
  tailStart,
} from "./places.ts";

export interface LogReaderSettings {
  /** Between two looks for what is new. */
  pollMs: number;
  /** How much farther than before a follower may fall behind before it skips. */
  maxBehindBytes: number;
  /** What a follower that skips is still shown of the past. */
  skipKeepBytes: number;
  lineMaxBytes: number;
  /** How long `next` waits at most. */
  beatMs: number;
}

export const LOG_READER_DEFAULTS: LogReaderSettings = {
  pollMs: 150,
  maxBehindBytes: 1024 * 1024,
  skipKeepBytes: 64 * 1024,
  lineMaxBytes: 16 * 1024,
  beatMs: 10_000,
};

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

async function startReading(
  log: OpenLog,
  query: LogQuery,
  { settings, signal }: { settings: LogReaderSettings; signal: AbortSignal },
): Promise<Next> {
  const { index } = log;
  const range = await rangeOf(log, query, signal);
  const buffer = new Uint8Array(PIECE_BYTES);
  let folder = foldLines(settings.lineMaxBytes);
  let { position } = range;
  /** Line ends before the position. */
  let line = await lineAt(log, position, signal);
  /** Where the unfinished line begins: whoever comes back goes on there. */
  let lineStart = position;
  let maxLag = Number.POSITIVE_INFINITY;
  /** The gaps and runs up to here; of the previous run's end nothing is asked. */
  const reached = () =>
    new Set<object>(
      [...index.gaps, ...index.runs].filter(
        (stop) => stop.position <= position && !(query.previous && stop.position >= range.end),
      ),
    );
  let known = reached();
  for (const run of runsAt(index, position).slice(range.runsTold)) known.delete(run);
  let shown = "";
  let told = "";

  const clean = (text: string) => maskSecrets(cleanLine(text, settings.lineMaxBytes));
  const lines = (texts: readonly string[]): LogEvent[] =>
    texts.map((text) => ({ type: "line", text: clean(text) }));

  /** Goes on farther behind: the start of a line, at `target` or soon after. */
  const skipTo = async (target: number): Promise<LogEvent[]> => {
    const start = nextLineStart(log, target);
    position = start ?? target;
    lineStart = position;
    folder = foldLines(settings.lineMaxBytes);
    if (start === null) folder.skipToNextLine();
    const at = await lineAt(log, position, signal);
    const left = at - line + (start === null ? 1 : 0);
    line = at;
    const before = known;
    known = reached();
    const lost = index.gaps
      .filter((gap) => known.has(gap) && !before.has(gap))
      .reduce((bytes, gap) => bytes + gap.bytes, 0);
    const runs = index.runs.filter((run) => known.has(run) && !before.has(run));
    const gap: LogEvent[] =
      left > 0 || lost > 0
        ? [{ type: "left_out", lines: Math.max(0, left), lost_bytes: lost }]
        : [];
    return [...gap, ...runs.slice(-1).map(runEvent)];
  };

  /** Gaps and runs up to here that were not told yet; the last may have come since. */
  const cross = (): LogEvent[] => {
    const before = known;
    known = reached();
    const gaps = index.gaps.filter((gap) => known.has(gap) && !before.has(gap));
    const runs = index.runs.filter((run) => known.has(run) && !before.has(run));
    if (gaps.length + runs.length === 0) return [];
    const rest = lines(folder.flush());
    lineStart = position;
    if (gaps.length > 0) folder.skipToNextLine();
    const lost = gaps.reduce((bytes, gap) => bytes + gap.bytes, 0);
    const gap: LogEvent[] = lost > 0 ? [{ type: "left_out", lines: 0, lost_bytes: lost }] : [];
    return [...rest, ...gap, ...runs.map(runEvent)];
  };

  const step = async (): Promise<LogEvent[]> => {
    const end = Math.min(range.end, endOf(log));
    const lag = end - position;
    if (query.follow) {
      // Who is still busy with the past may stay as far behind as that is, but no farther.
      maxLag = Math.min(maxLag, lag + settings.maxBehindBytes);
      if (lag > maxLag) return skipTo(Math.max(index.floor, end - settings.skipKeepBytes));
    }
    if (position < index.floor) return skipTo(index.floor);
    const news = cross();
    if (news.length > 0) return news;
    if (lag <= 0) return [];
    const stops = [...index.gaps, ...index.runs].filter((stop) => stop.position > position);
    const limit = Math.min(end, ...stops.map((stop) => stop.position));
    const bytes = readAt(
      log,
      position,
      buffer.subarray(0, Math.min(PIECE_BYTES, limit - position)),
    );
    const found = lines(folder.push(bytes));
    line += countLines(bytes);
    const lastEnd = bytes.lastIndexOf(0x0a);
    if (lastEnd !== -1) lineStart = position + lastEnd + 1;
    position += bytes.length;
    return bytes.length > 0 ? [...found, ...cross()] : found;
  };

  /** What a follower is told beside the lines. */
  const status = (): LogEvent[] => {
    const events: LogEvent[] = [];
    const live = clean(folder.live());
    if (live !== shown && live !== "") events.push({ type: "live", text: live });
    shown = live;
    const runsTold = runsAt(index, lineStart).filter((run) => known.has(run)).length;
    const place = `${index.id}:${lineStart}:${runsTold}`;
    if (place !== told) events.push({ type: "position", position: place });
    told = place;
    return events;
  };

  let isOver = false;
  return async () => {
    if (isOver) return null;
    const began = performance.now();
    for (;;) {
      signal.throwIfAborted();
      const before = position;
      const events = await step();
      if (query.follow) events.push(...status());
      if (events.length > 0) return events;
      if (position !== before) continue;
      if (!query.follow) {
        isOver = true;
        return [...lines(folder.flush()), { type: "end" }];
      }
      if (performance.now() - began >= settings.beatMs) return [];
      await sleep(settings.pollMs, signal);
    }
  };
}

interface Range {
  position: number;
  end: number;
  /** Of the runs that begin right at `position`: so many were told of already. */
  runsTold: number;
}

/** Where to begin, and where to end. */
async function rangeOf(log: OpenLog, query: LogQuery, signal: AbortSignal): Promise<Range> {
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
  const runsTold = index.runs.length;
  if (query.tail === null) return { position: Math.min(from, last), end, runsTold };
  const wanted = { from, to: last, lines: query.tail };
  return { position: await tailStart(log, wanted, signal), end, runsTold };
}

function endFor({ follow }: LogQuery, newest: number): number {
  return follow ? Number.POSITIVE_INFINITY : newest;
}

function resumeAt(log: OpenLog, from: string | null): Omit<Range, "end"> | null {
  const [id, at, runsTold] = from?.split(":") ?? [];
  const position = Number(at);
  if (id !== log.index.id || position > endOf(log)) return null;
  return { position, runsTold: Number(runsTold) };
}

function runsAt({ runs }: LogIndex, position: number): LogIndex["runs"] {
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
