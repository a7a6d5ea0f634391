/** The arithmetic of the benchmarks: medians, percentiles, slopes. */

/** The middle value, or the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const upper = sorted[half] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[half - 1] ?? Number.NaN) + upper) / 2;
}

/** Slope of the line through the points with the least squared error; 0 for fewer than two x. */
export function slope(points: ReadonlyArray<readonly [x: number, y: number]>): number {
  const n = points.length;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n;
  let products = 0;
  let squares = 0;
  for (const [x, y] of points) {
    products += (x - meanX) * (y - meanY);
    squares += (x - meanX) ** 2;
  }
  return squares > 0 ? products / squares : 0;
}

/** Each step is half a percent wider than the one before: that is the error of a percentile. */
const STEP = 1.005;
const LOG_STEP = Math.log(STEP);
/** 1 us to 16 minutes. */
const BUCKETS = Math.ceil(Math.log(1e9) / LOG_STEP);

/** Durations in microseconds, in bounded memory however many there are. */
export interface Histogram {
  add(us: number): void;
  readonly count: number;
  /** The duration that the share `q` (0 to 1) of all stays below; NaN when there are none. */
  percentile(q: number): number;
  /** How many were longer, up to the width of a step. */
  above(us: number): number;
  /** To be handed to `histogram()` elsewhere: bucket and count. */
  entries(): Array<[bucket: number, count: number]>;
}

export function histogram(entries: ReadonlyArray<readonly [number, number]> = []): Histogram {
  const buckets = new Float64Array(BUCKETS);
  let count = 0;
  for (const [bucket, n] of entries) {
    buckets[bucket] = (buckets[bucket] ?? 0) + n;
    count += n;
  }
  return {
    get count() {
      return count;
    },
    add(us) {
      const bucket = bucketOf(us);
      buckets[bucket] = (buckets[bucket] ?? 0) + 1;
      count += 1;
    },
    percentile(q) {
      if (count === 0) return Number.NaN;
      const wanted = Math.max(1, Math.ceil(q * count));
      let seen = 0;
      const found = buckets.findIndex((n) => (seen += n) >= wanted);
      return STEP ** (found + 0.5);
    },
    above(us) {
      const first = bucketOf(us) + 1;
      return buckets.subarray(first).reduce((sum, n) => sum + n, 0);
    },
    entries: () => [...buckets.entries()].filter(([, n]) => n > 0),
  };
}

function bucketOf(us: number): number {
  return us <= 1 ? 0 : Math.min(BUCKETS - 1, Math.floor(Math.log(us) / LOG_STEP));
}
