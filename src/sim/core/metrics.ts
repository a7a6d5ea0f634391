/** What the engine counts about each of its models. */

// Buckets: vLLM's vllm/v1/metrics/loggers.py.
const TTFT_BUCKETS = [
  0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
  160, 640, 2560,
];
const TOKEN_BUCKETS = [
  0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
];
const LATENCY_BUCKETS = [
  0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
];

/** The size that the cache is said to have where it has no limit. */
const UNLIMITED_KV_TOKENS = 1_048_576;

export type FinishedReason = "stop" | "length" | "abort" | "error";

export interface Histogram {
  buckets: readonly number[];
  counts: number[];
  sum: number;
}

/** All figures of one model; the engine writes the plain fields, `observe` the histograms. */
export type ModelMetrics = ReturnType<typeof createModelMetrics>;

/** Figures at zero. `maxModelLen` bounds the buckets that count tokens. */
export function createModelMetrics(maxModelLen: number, kvTokens: number | null) {
  const perRequest = oneTwoFive(maxModelLen);
  return {
    running: 0,
    waiting: 0,
    /** What running requests hold of the cache; where it has no limit, their tokens so far. */
    kvTokens: 0,
    kvCapacity: kvTokens ?? UNLIMITED_KV_TOKENS,
    /** Prompt tokens that were looked for in the cache, and those that were found. */
    prefixQueries: 0,
    prefixHits: 0,
    promptTokens: 0,
    generationTokens: 0,
    finished: { stop: 0, length: 0, abort: 0, error: 0 },
    ttft: histogram(TTFT_BUCKETS),
    itl: histogram(TOKEN_BUCKETS),
    tpot: histogram(TOKEN_BUCKETS),
    e2e: histogram(LATENCY_BUCKETS),
    queue: histogram(LATENCY_BUCKETS),
    inference: histogram(LATENCY_BUCKETS),
    prefill: histogram(LATENCY_BUCKETS),
    decode: histogram(LATENCY_BUCKETS),
    requestPromptTokens: histogram(perRequest),
    requestGenerationTokens: histogram(perRequest),
  };
}

/** Adds one observation to a histogram (seconds or tokens), or `times` equal ones. */
export function observe(into: Histogram, value: number, times = 1): void {
  let at = 0;
  while (at < into.buckets.length && value > (into.buckets[at] ?? 0)) at += 1;
  into.counts[at] = (into.counts[at] ?? 0) + times;
  into.sum += value * times;
}

function histogram(buckets: readonly number[]): Histogram {
  return { buckets, counts: new Array<number>(buckets.length + 1).fill(0), sum: 0 };
}

/** 1, 2, 5, 10, 20, ... up to a bound, as vLLM's build_1_2_5_buckets. */
function oneTwoFive(max: number): number[] {
  const buckets: number[] = [];
  for (let power = 1; power <= max; power *= 10) {
    buckets.push(...[1, 2, 5].map((m) => m * power).filter((value) => value <= max));
  }
  return buckets;
}

/** The share of the simulated cache that running requests take, 0 to 1. */
export function kvUsage({ kvTokens, kvCapacity }: ModelMetrics): number {
  return Math.min(1, kvTokens / kvCapacity);
}

/** Requests that have ended, whatever the reason. */
export function endedRequests({ finished }: ModelMetrics): number {
  return Object.values(finished).reduce((sum, count) => sum + count, 0);
}
