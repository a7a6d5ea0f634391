/** Prometheus text out of the engine's figures, whatever their names. */

import type { Histogram, ModelMetrics } from "./metrics.ts";

export interface Series {
  /** `name="value",...`, or "" for a metric without labels. */
  labels: string;
  metrics: ModelMetrics;
}

export type Read<T> = (metrics: ModelMetrics) => T;

export interface Exposition {
  gauge(name: string, help: string, read: Read<number>): void;
  counter(name: string, help: string, read: Read<number>): void;
  histogram(name: string, help: string, read: Read<Histogram>): void;
  /** A counter with one more label, of which every value has its own count. */
  counters(
    name: string,
    { help, label }: { help: string; label: string },
    read: Read<Record<string, number>>,
  ): void;
  /** A gauge about the engine, not a model; with its labels. */
  fact(name: string, help: string, value: { labels: string; value: number }): void;
  text(): string;
}

export function createExposition(series: readonly Series[]): Exposition {
  const lines: string[] = [];
  const family = (name: string, type: string, help: string) =>
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  const put = (name: string, labels: string, value: number) =>
    lines.push(`${name}${labels === "" ? "" : `{${labels}}`} ${value}`);
  const plain = (type: string) => (name: string, help: string, read: Read<number>) => {
    family(name, type, help);
    for (const { labels, metrics } of series) put(name, labels, read(metrics));
  };
  const and = (labels: string, more: string) => (labels === "" ? more : `${labels},${more}`);

  return {
    gauge: plain("gauge"),
    counter: plain("counter"),
    histogram(name, help, read) {
      family(name, "histogram", help);
      for (const { labels, metrics } of series) {
        const { buckets, counts, sum } = read(metrics);
        let total = 0;
        counts.forEach((count, i) => {
          total += count;
          put(`${name}_bucket`, and(labels, `le="${buckets[i] ?? "+Inf"}"`), total);
        });
        put(`${name}_count`, labels, total);
        put(`${name}_sum`, labels, sum);
      }
    },
    counters(name, { help, label }, read) {
      family(name, "counter", help);
      for (const { labels, metrics } of series) {
        for (const [value, count] of Object.entries(read(metrics))) {
          put(name, and(labels, `${label}="${value}"`), count);
        }
      }
    },
    fact(name, help, { labels, value }) {
      family(name, "gauge", help);
      put(name, labels, value);
    },
    text: () => `${lines.join("\n")}\n`,
  };
}

/** A value as it stands between the quotes of a label. */
export function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
