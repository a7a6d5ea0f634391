/** The last 15 minutes in points of 2 s, so that who begins to look begins with a past. */

import type { HistoryJson, HistoryPoint } from "../../protocol/watch-json.ts";

export interface History {
  push(point: HistoryPoint): void;
  /** The oldest first. */
  json(): HistoryJson;
  /** How many points there were in all. */
  readonly count: number;
  readonly latest: HistoryPoint | null;
}

export const HISTORY_INTERVAL_MS = 2000;
const DEFAULT_POINTS = 450;

const FIELDS = ["output_tokens_per_s", "ttft_p95_ms", "in_flight", "queued"] as const;

/** One typed array for all: 450 points are 14 KB, and nothing is left for the collector. */
export function createHistory(points = DEFAULT_POINTS): History {
  // Not a number is what is not known.
  const values = new Float64Array(points * FIELDS.length).fill(Number.NaN);
  let count = 0;

  const value = (index: number, field: number): number | null => {
    const found = values[(index % points) * FIELDS.length + field] ?? Number.NaN;
    return Number.isNaN(found) ? null : found;
  };
  const point = (index: number): HistoryPoint => ({
    output_tokens_per_s: value(index, 0),
    ttft_p95_ms: value(index, 1),
    in_flight: value(index, 2) ?? 0,
    queued: value(index, 3) ?? 0,
  });
  return {
    push(next) {
      const at = (count % points) * FIELDS.length;
      for (const [i, field] of FIELDS.entries()) values[at + i] = next[field] ?? Number.NaN;
      count += 1;
    },
    json: () => ({
      interval_ms: HISTORY_INTERVAL_MS,
      points: Array.from({ length: Math.min(count, points) }, (_, i) =>
        point(Math.max(0, count - points) + i),
      ),
    }),
    get count() {
      return count;
    },
    get latest() {
      return count === 0 ? null : point(count - 1);
    },
  };
}
