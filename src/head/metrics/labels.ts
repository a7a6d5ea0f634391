/** Keeps the values of metric labels few and printable, whatever clients and workers send. */

import { cleanLine } from "../../util/text.ts";
import type { Counter, Series } from "./prometheus.ts";

/** What stands for every value beyond the limit. */
export const OTHER = "other";
const MAX_LABEL_CHARS = 200;

export type LabelGuard = (value: string) => string;

/** Lets the first `max` values through; all later ones are `other`. */
export function createLabelGuard(max: number): LabelGuard {
  const labels = new Map<string, string>();
  return (value) => {
    const known = labels.get(value);
    if (known !== undefined) return known;
    if (labels.size >= max) return OTHER;
    const label = cleanLine(value, MAX_LABEL_CHARS);
    labels.set(value, label);
    return label;
  };
}

interface WorkerLabels {
  worker: string;
  model: string;
  outcome?: string;
}

/**
 * A counter by worker and model, whose series end with the worker: names come and go with every
 * allocation of a batch system. At most `max` series are kept apart.
 */
export function createWorkerSeries(counter: Counter<"worker" | "model" | "outcome">, max: number) {
  const workers = new Map<string, Map<string, { labels: WorkerLabels; series: Series<number> }>>();
  let size = 0;
  /** Adds one; beyond the limit to the worker's series for `other` models. */
  const inc = (worker: string, model: string, outcome?: string): void => {
    let ofWorker = workers.get(worker);
    if (!ofWorker) workers.set(worker, (ofWorker = new Map()));
    const key = outcome === undefined ? model : `${outcome}\u0000${model}`;
    let known = ofWorker.get(key);
    if (!known) {
      if (size >= max && model !== OTHER) return inc(worker, OTHER, outcome);
      const labels = outcome === undefined ? { worker, model } : { worker, model, outcome };
      known = { labels, series: counter.of(labels) };
      ofWorker.set(key, known);
      size += 1;
    }
    known.series.value += 1;
  };
  return {
    inc,
    /** Drops the series of workers for which `isKnown` is false. */
    prune(isKnown: (worker: string) => boolean) {
      for (const [worker, ofWorker] of workers) {
        if (isKnown(worker)) continue;
        for (const { labels } of ofWorker.values()) counter.remove(labels);
        size -= ofWorker.size;
        workers.delete(worker);
      }
    },
  };
}
