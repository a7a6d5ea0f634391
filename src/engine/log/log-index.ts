/** Where things are in an engine's log: its runs, when it was written, what was cut out of it. */

import { messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { countLines } from "./line-splitter.ts";
import { writeJsonFile } from "../../util/json-file.ts";
import { readSaved, type SavedIndex } from "./saved-index.ts";

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

export const LOG_INDEX_DEFAULTS = {
  /** The length of a stretch: how precisely the time of a line is known. */
  pointMs: 2_000,
  /** Stretches that are kept; beyond, the older half is kept half as precisely. */
  maxPoints: 1_024,
  /** How often times are written down, at most. */
  saveMs: 30_000,
};

export type LogIndexOptions = typeof LOG_INDEX_DEFAULTS;

/** What is known of the log; changed by the index's own functions only. */
export interface LogFacts {
  readonly path: string;
  /** Names the log whose positions these are. */
  readonly id: string;
  /** The position of the file's first byte. */
  base: number;
  /** The oldest position that can be read. */
  floor: number;
  /** Lines are counted and times are known up to here. */
  end: number;
  runs: readonly LoggedRun[];
  gaps: readonly LogGap[];
  /** When it was written down that the log ended at `end`. */
  savedAt: number;
}

/** Lives as long as the worker. Its writer is the EngineLog of the run. */
export interface LogIndex extends Readonly<LogFacts> {
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
  cut(cut: LogCut): void;
  /** Writes it down; that a disk does not take it is logged once. */
  save(): void;
}

export interface LogCut {
  base: number;
  keptLines: number;
  lost: LogGap;
  now: number;
}

const MAX_RUNS = 64;
const MAX_GAPS = 64;

interface State extends LogFacts {
  /** Line ends before `end`. */
  endLine: number;
  points: LogPoint[];
  alreadyLogged: boolean;
}

/** Reads `<path>.index`; without one that can be read the log is taken as not known yet. */
export function openLogIndex(
  path: string,
  { log, ...given }: Partial<LogIndexOptions> & { log: Log },
): LogIndex {
  const limits = { ...LOG_INDEX_DEFAULTS, ...given };
  const state = stateOf(path, readSaved(indexFile(path)));
  const save = () => saveState(state, log);
  const positionAt = (time: number) =>
    state.points.find(({ to }) => to >= time)?.position ?? state.end;
  return Object.assign(state, {
    pointAt: (position: number) => pointAt(state, position),
    positionAt,
    beginRun(run: LoggedRun) {
      state.runs = [...state.runs, run].slice(-MAX_RUNS);
      save();
    },
    dropRun(dropped: string) {
      state.runs = state.runs.filter((run) => run.id !== dropped);
      save();
    },
    seen(position: number, bytes: Uint8Array, time: { from: number; to: number }) {
      const fresh = bytes.subarray(Math.max(0, state.end - position));
      if (fresh.length === 0) return;
      noteTime(state, time, limits);
      state.end += fresh.length;
      state.endLine += countLines(fresh);
      if (time.to - state.savedAt >= limits.saveMs) save();
    },
    restart() {
      const { end, endLine } = state;
      state.base = end;
      state.floor = end;
      dropBefore(state, { position: end, line: endLine, from: Date.now(), to: Date.now() });
      save();
    },
    spoil(before: number) {
      state.floor = Math.max(state.floor, before);
    },
    cut(cut: LogCut) {
      cutTo(state, cut);
      save();
    },
    save,
  });
}

function stateOf(path: string, saved: SavedIndex | null): State {
  const { base = 0, floor = 0, end = 0, end_line: endLine = 0 } = saved ?? {};
  const runs = (saved?.runs ?? []).map(({ id, position, started_at }) => ({
    id,
    position,
    startedAt: started_at,
  }));
  return {
    path,
    id: saved?.id ?? crypto.randomUUID(),
    ...{ base, floor, end, endLine, runs },
    gaps: saved?.gaps ?? [],
    points: (saved?.points ?? []).map(toPoint),
    savedAt: saved?.saved_at ?? 0,
    alreadyLogged: false,
  };
}

function saveState(state: State, log: Log): void {
  state.savedAt = Date.now();
  const { path, id, base, floor, end, endLine, savedAt, points, gaps, runs } = state;
  try {
    const saved: SavedIndex = {
      schema: 1,
      ...{ id, base, floor, end },
      end_line: endLine,
      saved_at: savedAt,
      points: points.map(({ position, line, from, to }) => [position, line, from, to]),
      gaps,
      runs: runs.map((run) => ({ id: run.id, position: run.position, started_at: run.startedAt })),
    };
    writeJsonFile(indexFile(path), saved);
    state.alreadyLogged = false;
  } catch (error) {
    if (!state.alreadyLogged) log.warn(`cannot write ${indexFile(path)}: ${messageOf(error)}`);
    state.alreadyLogged = true;
  }
}

function indexFile(path: string): string {
  return `${path}.index`;
}

function noteTime(
  state: State,
  { from, to }: { from: number; to: number },
  { pointMs, maxPoints }: LogIndexOptions,
): void {
  const last = state.points.at(-1);
  // The clock may have been set back.
  if (last && to - last.from < pointMs && to >= last.from) {
    last.to = to;
    return;
  }
  state.points.push({ position: state.end, line: state.endLine, from, to });
  if (state.points.length > maxPoints) state.points = thin(state.points);
}

function pointAt({ points, end, endLine }: State, position: number): LogPoint {
  return (
    points.findLast((point) => point.position <= position) ??
    points[0] ?? { position: end, line: endLine, from: 0, to: 0 }
  );
}

function cutTo(state: State, { base, keptLines, lost, now }: LogCut): void {
  const { from, to } = pointAt(state, Math.min(base, state.end));
  const time = base <= state.end ? { from, to } : { from: now, to: now };
  addGap(state, { position: base, bytes: Math.max(0, base - state.end) });
  state.base = base;
  state.floor = base;
  state.end = Math.max(state.end, base);
  dropBefore(state, { position: base, line: state.endLine - keptLines, ...time });
  addGap(state, lost);
}

function addGap(state: State, gap: LogGap): void {
  if (gap.bytes > 0) state.gaps = [...state.gaps, gap].slice(-MAX_GAPS);
}

/** All but the entry where the rest begins. Gaps stay: a reader may still be behind them. */
function dropBefore(state: State, first: LogPoint): void {
  state.points = [first, ...state.points.filter(({ position }) => position > first.position)];
  const oldest = state.runs.findLastIndex(({ position }) => position <= first.position);
  state.runs = state.runs.slice(Math.max(0, oldest));
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

function toPoint([position = 0, line = 0, from = 0, to = 0]: readonly number[]): LogPoint {
  return { position, line, from, to };
}
