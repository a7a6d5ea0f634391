/** What rows are made from, and how figures of several things become one. */

import type { Quantiles } from "../../protocol/watch-rows.ts";
import type { Catalog, ClusterState } from "../state/state.ts";

/** How much passes; null is not known. */
export interface Throughput {
  requestsPerS: number | null;
  outputTokensPerS: number | null;
  ttftMs: Quantiles | null;
  itlMs: Quantiles | null;
  errorRatio: number | null;
}

export interface RowContext {
  state: ClusterState;
  catalog: Catalog;
  now: number;
  /** By a worker's name, by a model's name. */
  ofWorker: (name: string) => Throughput;
  ofModel: (name: string) => Throughput;
  outputHistory: (worker: string) => (number | null)[];
  /** What a name stands for that is no model; each with the models that it leads to. */
  aliases: readonly { name: string; models: readonly string[] }[];
}

const known = (values: readonly (number | null)[]) => values.filter((value) => value !== null);

/** Null when nothing is known: what is unknown is no zero. */
export function sum(values: readonly (number | null)[]): number | null {
  const some = known(values);
  return some.length === 0 ? null : some.reduce((total, value) => total + value, 0);
}

export function mean(values: readonly (number | null)[]): number | null {
  const total = sum(values);
  return total === null ? null : total / known(values).length;
}

export function most(values: readonly (number | null)[]): number | null {
  const some = known(values);
  return some.length === 0 ? null : Math.max(...some);
}

/** How often each stands there. */
export function tally(names: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

export function percent(share: number | null): number | null {
  return share === null ? null : Math.round(share * 1000) / 10;
}

export function ageOf(at: number, now: number): number {
  return Math.max(0, Math.round(now - at));
}
