/** Keeps the values of metric labels few and printable, whatever clients and workers send. */

import { cleanLine } from "../../util/text.ts";
import type { Count, Counter } from "./prometheus.ts";

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

/** The value for `key`; where there is none yet, what `make` gives is kept. */
export function once<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}

/** Of one worker: by model, then by outcome. */
type ByModel = Map<string, Map<string | undefined, Count>>;

/**
 * A counter by worker and model, whose series end with the worker: names come and go with every
 * allocation of a batch system. At most `max` series are kept apart.
 */
export function createWorkerSeries(counter: Counter<"worker" | "model" | "outcome">, max: number) {
  const workers = new Map<string, ByModel>();
  let size = 0;
  /** Adds one; beyond the limit to the worker's series for `other` models. */
  const inc = (worker: string, model: string, outcome?: string): void => {
    const found = workers.get(worker)?.get(model)?.get(outcome);
    if (found) found.value += 1;
    else if (size >= max && model !== OTHER) inc(worker, OTHER, outcome);
    else {
      const series = counter.series({ worker, model, outcome });
      series.value += 1;
      const models = once(workers, worker, (): ByModel => new Map());
      once(models, model, () => new Map()).set(outcome, series);
      size += 1;
    }
  };
  return {
    inc,
    /** Drops the series of workers for which `isKnown` is false. */
    prune(isKnown: (worker: string) => boolean) {
      for (const [worker, models] of workers) {
        if (isKnown(worker)) continue;
        for (const [model, outcomes] of models) {
          for (const outcome of outcomes.keys()) counter.remove({ worker, model, outcome });
          size -= outcomes.size;
        }
        workers.delete(worker);
      }
    },
  };
}
