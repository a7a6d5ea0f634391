/** Where things are in an engine's log: its runs, when it was written, what was cut out of it. */

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { countLines } from "./line-splitter.ts";
import { isRecord } from "../../util/json.ts";

// Positions are bytes since the log was begun: they stay what they are when the file is cut back.
// The engine writes without us, so times are those at which its bytes were seen here.

/** The log's name in its engine's folder. */
export const ENGINE_LOG = "engine.log";

/** A stretch of the log, up to the next one. */
export interface LogPoint {
  position: number;
  /** Line ends before it. */
  line: number;
  /** When the first and the last byte of it were seen, in Unix milliseconds. */
  from: number;
  to: number;
}

export interface LoggedRun {
  id: string;
  position: number;
  startedAt: number;
}

/** Bytes that are lost just before a position: cut away before anybody had read them. */
export interface LogGap {
  position: number;
  bytes: number;
}

export interface LogIndexOptions {
  /** The length of a stretch: how precisely the time of a line is known. */
  pointMs: number;
  /** Stretches that are kept; beyond, the older half is kept half as precisely. */
  maxPoints: number;
  /** How often times are written down, at most. */
  saveMs: number;
}

export const LOG_INDEX_DEFAULTS: LogIndexOptions = {
  pointMs: 2_000,
  maxPoints: 1_024,
  saveMs: 30_000,
};

/** Lives as long as the worker. Its writer is the EngineLog of the run. */
export interface LogIndex {
  /** The log's file. */
  readonly path: string;
  /** Names the log whose positions these are. */
  readonly id: string;
  /** The position of the file's first byte. */
  readonly base: number;
  /** The oldest position that can be read. */
  readonly floor: number;
  /** Lines are counted and times are known up to here. */
  readonly end: number;
  readonly runs: readonly LoggedRun[];
  readonly gaps: readonly LogGap[];
  /** The last stretch that begins at `position` or before. */
  pointAt(position: number): LogPoint;
  /** Where what was written at this time or later begins, or a little before. */
  positionAt(time: number): number;
  beginRun(run: LoggedRun): void;
  /** The run has not come to be. */
  dropRun(id: string): void;
  /** Takes bytes that were read; what is counted already is passed over. `from`: see LogPoint. */
  seen(position: number, bytes: Uint8Array, time: { from: number; to: number }): void;
  /** The file was cut by somebody else: it begins where the known part ended. */
  restart(): void;
  /** What stands before `floor` was overwritten. */
  spoil(floor: number): void;
  /**
   * The file now begins at `base`; `keptLines` line ends are between there and `end`, and
   * `lost.bytes` were lost before `lost.position`.
   */
  cut(cut: { base: number; keptLines: number; lost: LogGap; now: number }): void;
  /** Writes it down; a disk that does not take it is told once. */
  save(): void;
  /** When it was written down that the log ended at `end`. */
  readonly savedAt: number;
}

const MAX_RUNS = 64;
const MAX_GAPS = 64;

interface Saved {
  schema: 1;
  id: string;
  base: number;
  floor: number;
  end: number;
  end_line: number;
  saved_at: number;
  /** As `position, line, from, to`. */
  points: number[][];
  gaps: LogGap[];
  runs: { id: string; position: number; started_at: number }[];
}

/** Reads `<path>.index`; without one that can be read the log is taken as not known yet. */
export function openLogIndex(
  path: string,
  { log, ...given }: Partial<LogIndexOptions> & { log: Log },
): LogIndex {
  const limits = { ...LOG_INDEX_DEFAULTS, ...given };
  const saved = readSaved(`${path}.index`);
  const id = saved?.id ?? crypto.randomUUID();
  let { base = 0, floor = 0, end = 0, end_line: endLine = 0, saved_at: savedAt = 0 } = saved ?? {};
  let points: LogPoint[] = (saved?.points ?? []).map(toPoint);
  let gaps = saved?.gaps ?? [];
  let runs: LoggedRun[] = (saved?.runs ?? []).map((run) => ({
    id: run.id,
    position: run.position,
    startedAt: run.started_at,
  }));
  let isTold = false;

  const save = () => {
    savedAt = Date.now();
    const all: Saved = {
      schema: 1,
      id,
      base,
      floor,
      end,
      end_line: endLine,
      saved_at: savedAt,
      points: points.map(({ position, line, from, to }) => [position, line, from, to]),
      gaps,
      runs: runs.map((run) => ({ id: run.id, position: run.position, started_at: run.startedAt })),
    };
    try {
      writeFileSync(`${path}.index.new`, `${JSON.stringify(all)}\n`, { mode: 0o600 });
      renameSync(`${path}.index.new`, `${path}.index`);
      isTold = false;
    } catch (error) {
      if (!isTold) log.warn(`cannot write ${path}.index: ${messageOf(error)}`);
      isTold = true;
    }
  };
  const note = ({ from, to }: { from: number; to: number }) => {
    const last = points.at(-1);
    // The clock may have been set back.
    if (last && to - last.from < limits.pointMs && to >= last.from) {
      last.to = to;
      return;
    }
    points.push({ position: end, line: endLine, from, to });
    if (points.length > limits.maxPoints) points = thin(points);
  };
  const addGap = (gap: LogGap) => {
    if (gap.bytes > 0) gaps = [...gaps, gap].slice(-MAX_GAPS);
  };
  /**
   * What is gone from the file needs no entries, but for one that says where the rest begins. Gaps
   * stay: somebody may still be behind them.
   */
  const dropBefore = (first: LogPoint) => {
    points = [first, ...points.filter(({ position }) => position > first.position)];
    const oldest = runs.findLastIndex(({ position }) => position <= first.position);
    runs = runs.slice(Math.max(0, oldest));
  };
  const pointAt = (position: number): LogPoint =>
    points.findLast((point) => point.position <= position) ??
    points[0] ?? { position: end, line: endLine, from: 0, to: 0 };

  return {
    path,
    id,
    get base() {
      return base;
    },
    get floor() {
      return floor;
    },
    get end() {
      return end;
    },
    get runs() {
      return runs;
    },
    get gaps() {
      return gaps;
    },
    get savedAt() {
      return savedAt;
    },
    pointAt,
    positionAt: (time) => points.find(({ to }) => to >= time)?.position ?? end,
    beginRun(run) {
      runs = [...runs, run].slice(-MAX_RUNS);
      save();
    },
    dropRun(dropped) {
      runs = runs.filter((run) => run.id !== dropped);
      save();
    },
    seen(position, bytes, time) {
      const fresh = bytes.subarray(Math.max(0, end - position));
      if (fresh.length === 0) return;
      note(time);
      end += fresh.length;
      endLine += countLines(fresh);
      if (time.to - savedAt >= limits.saveMs) save();
    },
    restart() {
      base = end;
      floor = end;
      dropBefore({ position: end, line: endLine, from: Date.now(), to: Date.now() });
      save();
    },
    spoil(before) {
      floor = Math.max(floor, before);
    },
    cut({ base: start, keptLines, lost, now }) {
      const { from, to } = pointAt(Math.min(start, end));
      const isPassed = start <= end;
      addGap({ position: start, bytes: Math.max(0, start - end) });
      base = start;
      floor = start;
      end = Math.max(end, start);
      const line = endLine - keptLines;
      dropBefore({ position: start, line, ...(isPassed ? { from, to } : { from: now, to: now }) });
      addGap(lost);
      save();
    },
    save,
  };
}

/** Half as many for the older half. */
function thin(points: readonly LogPoint[]): LogPoint[] {
  const half = Math.floor(points.length / 2);
  const kept = points.slice(0, half).flatMap((point, i, older) => {
    const next = older[i + 1];
    return i % 2 === 1 ? [] : [{ ...point, to: next?.to ?? point.to }];
  });
  return [...kept, ...points.slice(half)];
}

function readSaved(path: string): Saved | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return isSaved(value) ? value : null;
  } catch {
    // Never written, or cut off by a full disk: the log is counted anew.
    return null;
  }
}

function isSaved(value: unknown): value is Saved {
  if (!isRecord(value)) return false;
  const { schema, id, base, floor, end, end_line, saved_at, points, gaps, runs } = value as Partial<
    Record<keyof Saved, unknown>
  >;
  return (
    schema === 1 &&
    typeof id === "string" &&
    /^[\w-]{1,64}$/.test(id) &&
    [base, floor, end, end_line, saved_at].every(isCount) &&
    Array.isArray(points) &&
    points.every(
      (point: unknown) => Array.isArray(point) && point.length === 4 && point.every(isCount),
    ) &&
    areAt(gaps, "bytes") &&
    areAt(runs, "started_at") &&
    runs.every(({ id: run }) => typeof run === "string")
  );
}

function areAt(value: unknown, figure: string): value is Record<string, unknown>[] {
  return (
    Array.isArray(value) &&
    value.every((entry: unknown) => {
      if (!isRecord(entry)) return false;
      const { position, [figure]: other } = entry as Record<string, unknown>;
      return isCount(position) && isCount(other);
    })
  );
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function toPoint([position = 0, line = 0, from = 0, to = 0]: readonly number[]): LogPoint {
  return { position, line, from, to };
}
