/** From what single requests met to a row of the table, and whether that is as it should be. */

export interface Sample {
  /** Milliseconds since the drill's load began. */
  beganAt: number;
  endedAt: number;
  /** `hung`: no end within the limit, so the client gave up. */
  kind: "whole" | "wrong" | "error" | "hung";
  why: string;
  resumed: boolean;
  /** The longest time without a byte, the wait for the first one included. */
  silenceMs: number;
}

export interface Row {
  drill: string;
  requests: number;
  /** Complete and correct to the byte. */
  answers: number;
  resumed: number;
  /** With those whose text was not the answer. */
  errors: number;
  hung: number;
  /** From the fault until the throughput is whole again; null: it never was, or nothing shows it. */
  recoveryMs: number | null;
  /** The longest time that a client of an answered request saw nothing. */
  silenceMs: number;
  /** Engines that ended without being told to by llmnode. */
  deaths: number;
  /** What the drill has to say beside the load. */
  note: string;
  /** Reasons of errors and of hung requests, most frequent first. */
  why: string[];
}

export interface Expected {
  /**
   * Errors of requests that began or ran in this span do not count: the head itself was away.
   * Milliseconds since the load began.
   */
  excused: { from: number; to: number } | null;
  /** Engine deaths beyond which it fails; null: not looked at. */
  maxDeaths: number | null;
}

const WINDOW_MS = 1000;
const STEP_MS = 100;
/** The share of the throughput before the fault that counts as whole; a busy machine wavers. */
const WHOLE = 0.8;
const MAX_REASONS = 5;

export function tally(
  drill: string,
  samples: readonly Sample[],
  { recoveryMs, deaths, note }: Pick<Row, "recoveryMs" | "deaths" | "note">,
): Row {
  const count = (kind: Sample["kind"]) => samples.filter((sample) => sample.kind === kind).length;
  const answered = samples.filter((sample) => sample.kind === "whole");
  const reasons = new Map<string, number>();
  for (const { kind, why } of samples) {
    if (kind !== "whole") reasons.set(`${kind}: ${why}`, (reasons.get(`${kind}: ${why}`) ?? 0) + 1);
  }
  return {
    drill,
    requests: samples.length,
    answers: answered.length,
    resumed: samples.filter((sample) => sample.resumed).length,
    errors: count("error") + count("wrong"),
    hung: count("hung"),
    recoveryMs,
    silenceMs: Math.max(0, ...answered.map((sample) => sample.silenceMs)),
    deaths,
    note,
    why: [...reasons]
      .sort(([, a], [, b]) => b - a)
      .slice(0, MAX_REASONS)
      .map(([why, times]) => `${times}x ${why}`),
  };
}

/** What is not as it should be; empty when all is. */
export function verdict(row: Row, samples: readonly Sample[], expected: Expected): string[] {
  const { excused, maxDeaths } = expected;
  const inside = ({ beganAt, endedAt }: Sample) =>
    excused !== null && beganAt <= excused.to && endedAt >= excused.from;
  const errors = samples.filter(
    (sample) => (sample.kind === "error" && !inside(sample)) || sample.kind === "wrong",
  );
  const failures: string[] = [];
  if (row.requests === 0) failures.push("no request was made");
  if (errors.length > 0) failures.push(`${errors.length} errors, the first: ${errors[0]?.why}`);
  if (row.hung > 0) failures.push(`${row.hung} requests hung`);
  if (maxDeaths !== null && row.deaths > maxDeaths) {
    failures.push(`${row.deaths} engines died, ${maxDeaths} at most should have`);
  }
  return failures;
}

/**
 * How long after the fault a window began in which as much came as before it. `frames` are times at
 * which clients got frames, in order; `endAt` is when the first client had nothing left to ask.
 */
export function recovery(
  frames: readonly number[],
  { faultAt, endAt }: { faultAt: number; endAt: number },
): number | null {
  const before = windows(frames, { from: Math.max(0, faultAt - 5 * WINDOW_MS), to: faultAt });
  const usual = [...before].sort((a, b) => a.count - b.count)[Math.floor(before.length / 2)];
  if (usual === undefined || usual.count === 0) return null;
  const after = windows(frames, { from: faultAt, to: endAt });
  const whole = after.find(({ count }) => count >= usual.count * WHOLE);
  return whole ? whole.at - faultAt : null;
}

/** Frames in each window that lies within a span; the first one begins at its start. */
function windows(
  frames: readonly number[],
  { from, to }: { from: number; to: number },
): Array<{ at: number; count: number }> {
  const list: Array<{ at: number; count: number }> = [];
  let first = lowerBound(frames, from);
  let last = first;
  for (let at = from; at + WINDOW_MS <= to; at += STEP_MS) {
    while (first < frames.length && (frames[first] ?? 0) < at) first += 1;
    while (last < frames.length && (frames[last] ?? 0) < at + WINDOW_MS) last += 1;
    list.push({ at, count: last - first });
  }
  return list;
}

function lowerBound(list: readonly number[], value: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Growth per hour by least squares, of what was measured at times in milliseconds. */
export function slopePerHour(points: ReadonlyArray<{ atMs: number; value: number }>): number {
  const n = points.length;
  if (n < 2) return 0;
  const mean = (read: (point: { atMs: number; value: number }) => number) =>
    points.reduce((sum, point) => sum + read(point), 0) / n;
  const time = mean((point) => point.atMs);
  const value = mean((point) => point.value);
  let above = 0;
  let below = 0;
  for (const point of points) {
    above += (point.atMs - time) * (point.value - value);
    below += (point.atMs - time) ** 2;
  }
  return below === 0 ? 0 : (above / below) * 3_600_000;
}

/** A small generator with a seed (mulberry32), so that a run can be had again: 0 to 1. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
