/** How much passed in the last minute, and how fast: in all, by worker, by model. */

import type { Quantiles } from "../../protocol/watch-rows.ts";

/** What one finished request adds. */
export interface RequestFigures {
  isError: boolean;
  isRetried: boolean;
  isResumed: boolean;
  inputTokens: number | null;
  /** Those that `tokens` has not counted yet. */
  outputTokens: number;
  /** Null: no first token came. */
  ttftMs: number | null;
  /** Between tokens, on average over the answer. */
  itlMs: number | null;
}

interface RateFigures {
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

const COUNTS = 6;
const REQUESTS = 0;
const ERRORS = 1;
const RETRIES = 2;
const RESUMED = 3;
const INPUT = 4;
const OUTPUT = 5;

/** `now` never goes back, in milliseconds. */
export function createRates(options: { now: () => number; maxSeries?: number }): Rates {
  const { now, maxSeries = DEFAULT_MAX_SERIES } = options;
  const total = createSeries();
  const workers = new Map<string, Series>();
  const models = new Map<string, Series>();

  const seriesOf = (map: Map<string, Series>, name: string): Series => {
    const known = map.get(name);
    if (known) return known;
    if (map.size >= maxSeries) forgetOldest(map);
    const series = createSeries();
    map.set(name, series);
    return series;
  };
  const stepNow = () => Math.floor(now() / STEP_MS);

  return {
    ended({ worker, model }, figures) {
      const step = stepNow();
      total.note(step, figures);
      if (worker !== null) seriesOf(workers, worker).note(step, figures);
      if (model !== null) seriesOf(models, model).note(step, figures);
    },
    tokens({ worker, model }, output) {
      if (output <= 0) return;
      const step = stepNow();
      total.passed(step, output);
      if (worker !== null) seriesOf(workers, worker).passed(step, output);
      if (model !== null) seriesOf(models, model).passed(step, output);
    },
    all: () => figuresOf(total, stepNow()),
    worker: (name) => figuresOf(workers.get(name) ?? null, stepNow()),
    model: (name) => figuresOf(models.get(name) ?? null, stepNow()),
    outputHistory: (name) => workers.get(name)?.history(stepNow()) ?? [],
  };
}

/** Rare: names of workers and models come and go slowly. */
function forgetOldest(map: Map<string, Series>): void {
  let oldest: string | null = null;
  let seen = Number.POSITIVE_INFINITY;
  for (const [name, { latest }] of map) {
    if ((latest ?? -1) >= seen) continue;
    oldest = name;
    seen = latest ?? -1;
  }
  if (oldest !== null) map.delete(oldest);
}

type Series = ReturnType<typeof createSeries>;

function createSeries() {
  const values = new Float64Array(HISTORY_STEPS * COUNTS);
  const ttft = createSamples();
  const itl = createSamples();
  let latest: number | null = null;
  let since: number | null = null;

  /** Where the step's counts begin; what is between the last step and this one was nothing. */
  const placeOf = (step: number): number => {
    if (step !== latest) {
      since ??= step;
      if (latest === null || step - latest >= HISTORY_STEPS) values.fill(0);
      else {
        for (let past = latest + 1; past <= step; past += 1) {
          const at = (past % HISTORY_STEPS) * COUNTS;
          values.fill(0, at, at + COUNTS);
        }
      }
      latest = Math.max(latest ?? step, step);
    }
    return (step % HISTORY_STEPS) * COUNTS;
  };
  const add = (at: number, n: number) => {
    values[at] = (values[at] ?? 0) + n;
  };
  const at = (step: number, count: number): number => {
    if (latest === null || step > latest || latest - step >= HISTORY_STEPS) return 0;
    return values[(step % HISTORY_STEPS) * COUNTS + count] ?? 0;
  };
  return {
    /** The first step in which anything was seen; null: none was. */
    get since() {
      return since;
    },
    get latest() {
      return latest;
    },
    note(step: number, figures: RequestFigures) {
      const place = placeOf(step);
      add(place + REQUESTS, 1);
      if (figures.isError) add(place + ERRORS, 1);
      if (figures.isRetried) add(place + RETRIES, 1);
      if (figures.isResumed) add(place + RESUMED, 1);
      if (figures.inputTokens !== null) add(place + INPUT, figures.inputTokens);
      if (figures.outputTokens > 0) add(place + OUTPUT, figures.outputTokens);
      if (figures.ttftMs !== null) ttft.push(step, figures.ttftMs);
      if (figures.itlMs !== null) itl.push(step, figures.itlMs);
    },
    passed(step: number, output: number) {
      add(placeOf(step) + OUTPUT, output);
    },
    sum(step: number, count: number) {
      let sum = 0;
      for (let past = step - WINDOW_STEPS; past < step; past += 1) sum += at(past, count);
      return sum;
    },
    /** Of the latest steps that are over. */
    history(step: number, length = HISTORY_STEPS - 1) {
      return Array.from({ length }, (_, i) => {
        const past = step - length + i;
        if (since === null || past < since) return null;
        return (at(past, OUTPUT) * 1000) / STEP_MS;
      });
    },
    ttft,
    itl,
  };
}

/** The latest samples in a ring, with their steps. */
function createSamples() {
  let values: Float64Array | null = null;
  let steps: Float64Array | null = null;
  let count = 0;
  return {
    push(step: number, value: number) {
      // Most models have had no request at all.
      values ??= new Float64Array(MAX_SAMPLES);
      steps ??= new Float64Array(MAX_SAMPLES);
      values[count % MAX_SAMPLES] = value;
      steps[count % MAX_SAMPLES] = step;
      count += 1;
    },
    quantiles(step: number): Quantiles | null {
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
  const requests = series.sum(step, REQUESTS);
  const errors = series.sum(step, ERRORS);
  // Tokens flow now or not: a minute would still show them long after the last one.
  const recent = series.history(step, RECENT_STEPS);
  const flowing = recent.filter((value) => value !== null);
  return {
    requestsPerS: requests / seconds,
    inputTokensPerS: series.sum(step, INPUT) / seconds,
    outputTokensPerS: flowing.reduce((sum, value) => sum + value, 0) / Math.max(1, flowing.length),
    ttftMs: series.ttft.quantiles(step),
    itlMs: series.itl.quantiles(step),
    errorRatio: requests === 0 ? null : errors / requests,
    retries: series.sum(step, RETRIES),
    resumed: series.sum(step, RESUMED),
  };
}

const RECENT_STEPS = 5;
