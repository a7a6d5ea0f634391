/** Prometheus text out of the engine's figures, whatever their names. */

import type { Histogram, ModelMetrics } from "./metrics.ts";

export interface Series {
  /** `name="value",...`, or "" for a metric without labels. */
  labels: string;
  metrics: ModelMetrics;
}

/** A figure by the name of its field, or worked out. */
type Read<T> = FieldOf<T> | ((metrics: ModelMetrics) => T);
type FieldOf<T> = {
  [K in keyof ModelMetrics]: ModelMetrics[K] extends T ? K : never;
}[keyof ModelMetrics];

/** `prefix` is what all names begin with. */
export function createExposition(prefix: string, series: readonly Series[]) {
  const lines: string[] = [];
  const family = (name: string, type: string, help: string) => {
    const full = prefix + name;
    lines.push(`# HELP ${full} ${help}`, `# TYPE ${full} ${type}`);
    return full;
  };
  const put = (name: string, labels: string, value: number) =>
    lines.push(`${name}${labels === "" ? "" : `{${labels}}`} ${value}`);
  const plain = (type: string) => (name: string, help: string, read: Read<number>) => {
    const full = family(name, type, help);
    for (const { labels, metrics } of series) {
      put(full, labels, typeof read === "string" ? metrics[read] : read(metrics));
    }
  };
  const and = (labels: string, more: string) => (labels === "" ? more : `${labels},${more}`);

  return {
    gauge: plain("gauge"),
    counter: plain("counter"),
    histogram(name: string, help: string, field: FieldOf<Histogram>) {
      const full = family(name, "histogram", help);
      for (const { labels, metrics } of series) {
        const { buckets, counts, sum } = metrics[field];
        let total = 0;
        counts.forEach((count, i) => {
          total += count;
          put(`${full}_bucket`, and(labels, `le="${buckets[i] ?? "+Inf"}"`), total);
        });
        put(`${full}_count`, labels, total);
        put(`${full}_sum`, labels, sum);
      }
    },
    /** A counter with one more label, of which every value has its own count. */
    counters(
      name: string,
      { help, label }: { help: string; label: string },
      read: (metrics: ModelMetrics) => Record<string, number>,
    ) {
      const full = family(name, "counter", help);
      for (const { labels, metrics } of series) {
        for (const [value, count] of Object.entries(read(metrics))) {
          put(full, and(labels, `${label}="${value}"`), count);
        }
      }
    },
    /** A gauge about the engine, not a model; always 1. */
    info: (name: string, help: string, labels: string) =>
      put(family(name, "gauge", help), labels, 1),
    text: () => `${lines.join("\n")}\n`,
  };
}

/** One series for each model, with the labels that its name, escaped, makes. */
export function seriesByModel(
  models: ReadonlyMap<string, ModelMetrics>,
  labelsOf: (model: string) => string,
): Series[] {
  return [...models].map(([model, metrics]) => ({ labels: labelsOf(escapeLabel(model)), metrics }));
}

/** The only model's series, of engines that put no label. */
export function onlySeries(models: ReadonlyMap<string, ModelMetrics>): Series[] {
  return [...models.values()].slice(0, 1).map((metrics) => ({ labels: "", metrics }));
}

/** A value as it stands between the quotes of a label. */
function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
