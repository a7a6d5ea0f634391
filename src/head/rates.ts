/** How much passed in the last minute, and how fast: in all, by worker, by model. */

import type { Quantiles } from "../protocol/watch-rows.ts";

/** What one finished request adds. */
export interface RequestFigures {
  isError: boolean;
  isRetried: boolean;
  isResumed: boolean;
  inputTokens: number | null;
  /** Null: no first token came. */
  ttftMs: number | null;
  /** Between tokens, on average over the answer. */
  itlMs: number | null;
}

export interface RateFigures {
  requestsPerS: number | null;
  inputTokensPerS: number | null;
  outputTokensPerS: number | null;
  ttftMs: Quantiles | null;
  itlMs: Quantiles | null;
  errorRatio: number | null;
  retries: number;
  resumed: number;
}

export interface Rates {
  /** A request has ended; its worker and model as far as they are known. */
  ended(of: { worker: string | null; model: string | null }, figures: RequestFigures): void;
  /** Tokens that were passed on since this was called last: also while answers still run. */
  tokens(of: { worker: string | null; model: string | null }, output: number): void;
  all(): RateFigures;
  worker(name: string): RateFigures;
  model(name: string): RateFigures;
  /** Output tokens per second in steps of 2 s, the oldest first, null before it was first seen. */
  outputHistory(worker: string): (number | null)[];
}

/** Two seconds a step: short enough for a graph, long enough for a rate. */
const STEP_MS = 2000;
const WINDOW_STEPS = 30;
/** Kept for the small graph beside a worker. */
const HISTORY_STEPS = 60;
/** Of the last minute, for quantiles: more would not change what is shown. */
const MAX_SAMPLES = 256;
/** Workers and models that are kept at once; the one that was silent longest goes. */
const DEFAULT_MAX_SERIES = 10_000;

const COUNTS = ["requests", "errors", "retries", "resumed", "input", "output"] as const;
type Count = (typeof COUNTS)[number];

/** `now` never goes back, in milliseconds. */
export function createRates(options: { now: () => number; maxSeries?: number }): Rates {
  const { now, maxSeries = DEFAULT_MAX_SERIES } = options;
  const total = createSeries();
  const workers = new Map<string, Series>();
  const models = new Map<string, Series>();

  const seriesOf = (map: Map<string, Series>, name: string): Series => {
    const found = map.get(name) ?? createSeries();
    // Moved to the end, so that the first one is the one that was silent longest.
    map.delete(name);
    map.set(name, found);
    if (map.size > maxSeries) {
      const [oldest] = map.keys();
      if (oldest !== undefined) map.delete(oldest);
    }
    return found;
  };
  const each = (of: { worker: string | null; model: string | null }): Series[] => [
    total,
    ...(of.worker === null ? [] : [seriesOf(workers, of.worker)]),
    ...(of.model === null ? [] : [seriesOf(models, of.model)]),
  ];
  const stepNow = () => Math.floor(now() / STEP_MS);

  return {
    ended(of, figures) {
      const step = stepNow();
      for (const series of each(of)) {
        series.add(step, "requests", 1);
        if (figures.isError) series.add(step, "errors", 1);
        if (figures.isRetried) series.add(step, "retries", 1);
        if (figures.isResumed) series.add(step, "resumed", 1);
        if (figures.inputTokens !== null) series.add(step, "input", figures.inputTokens);
        if (figures.ttftMs !== null) series.ttft.push(step, figures.ttftMs);
        if (figures.itlMs !== null) series.itl.push(step, figures.itlMs);
      }
    },
    tokens(of, output) {
      if (output <= 0) return;
      const step = stepNow();
      for (const series of each(of)) series.add(step, "output", output);
    },
    all: () => figuresOf(total, stepNow()),
    worker: (name) => figuresOf(workers.get(name) ?? null, stepNow()),
    model: (name) => figuresOf(models.get(name) ?? null, stepNow()),
    outputHistory: (name) => workers.get(name)?.history(stepNow()) ?? [],
  };
}

interface Series {
  /** The first step in which anything was seen; null: none was. */
  readonly since: number | null;
  add(step: number, count: Count, n: number): void;
  sum(step: number, count: Count): number;
  /** Of the steps that are over. */
  history(step: number): (number | null)[];
  ttft: Samples;
  itl: Samples;
}

function createSeries(): Series {
  const values = new Float64Array(HISTORY_STEPS * COUNTS.length);
  let latest: number | null = null;
  let since: number | null = null;

  /** What is between the last step and this one was nothing. */
  const goTo = (step: number) => {
    since ??= step;
    if (latest === null || step - latest >= HISTORY_STEPS) values.fill(0);
    else {
      for (let past = latest + 1; past <= step; past += 1) {
        const at = (past % HISTORY_STEPS) * COUNTS.length;
        values.fill(0, at, at + COUNTS.length);
      }
    }
    latest = Math.max(latest ?? step, step);
  };
  const at = (step: number, count: Count): number => {
    if (latest === null || step > latest || latest - step >= HISTORY_STEPS) return 0;
    return values[(step % HISTORY_STEPS) * COUNTS.length + COUNTS.indexOf(count)] ?? 0;
  };
  return {
    get since() {
      return since;
    },
    add(step, count, n) {
      goTo(step);
      const place = (step % HISTORY_STEPS) * COUNTS.length + COUNTS.indexOf(count);
      values[place] = (values[place] ?? 0) + n;
    },
    sum(step, count) {
      let sum = 0;
      for (let past = step - WINDOW_STEPS; past < step; past += 1) sum += at(past, count);
      return sum;
    },
    history(step) {
      return Array.from({ length: HISTORY_STEPS - 1 }, (_, i) => {
        const past = step - HISTORY_STEPS + 1 + i;
        if (since === null || past < since) return null;
        return (at(past, "output") * 1000) / STEP_MS;
      });
    },
    ttft: createSamples(),
    itl: createSamples(),
  };
}

interface Samples {
  push(step: number, value: number): void;
  quantiles(step: number): Quantiles | null;
}

/** The latest samples in a ring, with their steps. */
function createSamples(): Samples {
  let values: Float64Array | null = null;
  let steps: Float64Array | null = null;
  let count = 0;
  return {
    push(step, value) {
      // Most models have had no request at all.
      values ??= new Float64Array(MAX_SAMPLES);
      steps ??= new Float64Array(MAX_SAMPLES);
      values[count % MAX_SAMPLES] = value;
      steps[count % MAX_SAMPLES] = step;
      count += 1;
    },
    quantiles(step) {
      if (values === null || steps === null) return null;
      const from = step - WINDOW_STEPS;
      const fresh = values
        .slice(0, Math.min(count, MAX_SAMPLES))
        .filter((_, i) => (steps?.[i] ?? 0) >= from)
        .sort();
      if (fresh.length === 0) return null;
      const at = (share: number) => fresh[Math.ceil(share * fresh.length) - 1] ?? 0;
      return { p50: at(0.5), p95: at(0.95) };
    },
  };
}

/** A rate needs a past: what was seen first just now has none yet. */
function figuresOf(series: Series | null, step: number): RateFigures {
  if (series === null || series.since === null || series.since >= step) {
    return {
      requestsPerS: null,
      inputTokensPerS: null,
      outputTokensPerS: null,
      ttftMs: series?.ttft.quantiles(step) ?? null,
      itlMs: series?.itl.quantiles(step) ?? null,
      errorRatio: null,
      retries: 0,
      resumed: 0,
    };
  }
  const seconds = (Math.min(WINDOW_STEPS, step - series.since) * STEP_MS) / 1000;
  const requests = series.sum(step, "requests");
  const errors = series.sum(step, "errors");
  // Tokens flow now or not: a minute would still show them long after the last one.
  const recent = series.history(step).slice(-RECENT_STEPS);
  const flowing = recent.filter((value) => value !== null);
  return {
    requestsPerS: requests / seconds,
    inputTokensPerS: series.sum(step, "input") / seconds,
    outputTokensPerS: flowing.reduce((sum, value) => sum + value, 0) / Math.max(1, flowing.length),
    ttftMs: series.ttft.quantiles(step),
    itlMs: series.itl.quantiles(step),
    errorRatio: requests === 0 ? null : errors / requests,
    retries: series.sum(step, "retries"),
    resumed: series.sum(step, "resumed"),
  };
}

const RECENT_STEPS = 5;
