/** Counters, gauges and histograms in Prometheus' text format, made for being counted up often. */

// A request makes some fifteen observations. Whoever makes them keeps the series that it counts in:
// to find one by its labels takes longer than all else that is done for it.

import type { Pace } from "../../util/flow/slices.ts";

export type Labels<L extends string> = { [name in L]?: string | undefined };

/** One series of a counter or a gauge. */
export interface Count {
  value: number;
}

/** One series of a histogram. */
export interface Distribution {
  observe(value: number): void;
}

export interface Counter<L extends string> {
  inc(labels: Labels<L>, by?: number): void;
  /** The series with these labels, to count in; from now on it is there, with 0 at first. */
  series(labels: Labels<L>): Count;
  /** Ends a series; what is still counted in it is lost. */
  remove(labels: Labels<L>): void;
}

export interface Gauge<L extends string> {
  inc(labels: Labels<L>, by?: number): void;
  set(labels: Labels<L>, value: number): void;
}

export interface Histogram<L extends string> {
  series(labels: Labels<L>): Distribution;
}

interface MetricSpec<L extends string> {
  name: string;
  help: string;
  /** Of these a series may leave some out. */
  labelNames: readonly L[];
}

interface CollectedSpec<L extends string> extends MetricSpec<L> {
  type?: "gauge" | "counter";
  /** Whether no two steps set the same series: then each is written at once, and not kept. */
  ownSeries?: boolean;
}

/** Long work that can be left between any two steps, for others to have their turn. */
export type Steps = Iterable<void>;

export interface Registry {
  counter<L extends string>(spec: MetricSpec<L>): Counter<L>;
  histogram<L extends string>(spec: MetricSpec<L> & { buckets: readonly number[] }): Histogram<L>;
  /** A gauge, or a counter that is counted elsewhere; what `collect` sets at a scrape is all there is. */
  collected<L extends string>(
    spec: CollectedSpec<L>,
    collect: (gauge: Gauge<L>) => Steps | void | Promise<void>,
  ): void;
  /** All metrics, in pieces of some tens of kB; others have their turn as `pace` says. */
  chunks(pace: Pace): Promise<Uint8Array[]>;
}

/** The text of one metric, in parts between which others may have their turn. */
type Family = () => Iterable<string> | Promise<Iterable<string>>;

/** How much is sent in one piece. */
const CHUNK_CHARS = 64 * 1024;

export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export function createRegistry(): Registry {
  const families: Family[] = [];
  return {
    counter(spec) {
      const values = new Values(spec);
      families.push(() => values.text());
      return values;
    },
    collected(spec, collect) {
      families.push(async () => {
        const values = new Values(spec);
        const steps = await collect(values);
        return collectedText(values, steps ?? [], spec);
      });
    },
    histogram(spec) {
      const values = new Distributions(spec);
      families.push(() => values.text());
      return values;
    },
    async chunks(pace) {
      const encoder = new TextEncoder();
      const chunks: Uint8Array[] = [];
      let text = "";
      for (const family of families) {
        for (const part of await family()) {
          text += part;
          if (text.length >= CHUNK_CHARS) {
            chunks.push(encoder.encode(text));
            text = "";
          }
          if (pace.isDue) await pace.rest();
        }
      }
      chunks.push(encoder.encode(text));
      return chunks;
    },
  };
}

function* collectedText<L extends string>(
  values: Values<L>,
  steps: Steps,
  { type = "gauge", ownSeries = false }: CollectedSpec<L>,
): Generator<string> {
  yield values.head(type);
  for (const _ of steps) yield ownSeries ? values.takeLines() : "";
  yield* values.lines();
}

class Values<L extends string> implements Counter<L>, Gauge<L> {
  readonly #spec: MetricSpec<L>;
  /** By their labels, as they are written. */
  readonly #series = new Map<string, Count>();

  constructor(spec: MetricSpec<L>) {
    this.#spec = spec;
  }

  series(labels: Labels<L>): Count {
    const text = labelText(this.#spec.labelNames, labels);
    let found = this.#series.get(text);
    if (!found) this.#series.set(text, (found = { value: 0 }));
    return found;
  }

  inc(labels: Labels<L>, by = 1): void {
    this.series(labels).value += by;
  }

  set(labels: Labels<L>, value: number): void {
    this.series(labels).value = value;
  }

  remove(labels: Labels<L>): void {
    this.#series.delete(labelText(this.#spec.labelNames, labels));
  }

  *text(): Generator<string> {
    yield this.head("counter");
    yield* this.lines();
  }

  head(type: "counter" | "gauge"): string {
    return head(this.#spec, type);
  }

  *lines(): Generator<string> {
    const { name } = this.#spec;
    for (const [labels, { value }] of this.#series) yield `${name}${braced(labels)} ${value}\n`;
  }

  /** All lines there are, which then are not any more. */
  takeLines(): string {
    let text = "";
    for (const line of this.lines()) text += line;
    this.#series.clear();
    return text;
  }
}

class Distributions<L extends string> implements Histogram<L> {
  readonly #spec: MetricSpec<L> & { buckets: readonly number[] };
  readonly #series = new Map<string, Buckets>();

  constructor(spec: MetricSpec<L> & { buckets: readonly number[] }) {
    this.#spec = spec;
  }

  series(labels: Labels<L>): Distribution {
    const text = labelText(this.#spec.labelNames, labels);
    let found = this.#series.get(text);
    if (!found) this.#series.set(text, (found = new Buckets(this.#spec.buckets)));
    return found;
  }

  *text(): Generator<string> {
    const { name, buckets } = this.#spec;
    const bounds = [...buckets.map(String), "+Inf"];
    yield head(this.#spec, "histogram");
    for (const [labels, { counts, sum }] of this.#series) {
      const start = `${name}_bucket{${labels}${labels === "" ? "" : ","}le="`;
      let text = "";
      let below = 0;
      for (const [i, bound] of bounds.entries()) {
        below += counts[i] as number;
        text += `${start}${bound}"} ${below}\n`;
      }
      yield `${text}${name}_sum${braced(labels)} ${sum}\n${name}_count${braced(labels)} ${below}\n`;
    }
  }
}

class Buckets implements Distribution {
  readonly #bounds: readonly number[];
  /** Per bucket, not cumulative; the last one is what lies above all bounds. */
  readonly counts: Float64Array;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] as number)) at += 1;
    this.counts[at] = (this.counts[at] as number) + 1;
    this.sum += value;
  }
}

function head({ name, help }: { name: string; help: string }, type: string): string {
  return `# HELP ${name} ${help.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")}\n# TYPE ${name} ${type}\n`;
}

function labelText<L extends string>(names: readonly L[], labels: Labels<L>): string {
  let text = "";
  for (const name of names) {
    const value = labels[name];
    if (value === undefined) continue;
    text += `${text === "" ? "" : ","}${name}="${escape(value)}"`;
  }
  return text;
}

function escape(value: string): string {
  // Nearly none has anything to escape, and three replacements take longer than one look.
  if (!/[\\"\n]/.test(value)) return value;
  return value.replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}

function braced(labels: string): string {
  return labels === "" ? "" : `{${labels}}`;
}
