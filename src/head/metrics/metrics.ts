/** Writes `GET /metrics` in Prometheus' text format: requests, keys, the cluster, this process. */

import type { RequestRecord } from "../../proxy/record/record.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import { type ClusterSource, registerClusterMetrics } from "./cluster.ts";
import { type KeyMetrics, registerKeyMetrics } from "./keys.ts";
import { createLabelGuard, type LabelGuard } from "./labels.ts";
import { registerProcessMetrics } from "./process.ts";
import { CONTENT_TYPE, createRegistry } from "./prometheus.ts";
import { registerRequestMetrics } from "./requests.ts";
import { registerWorkerMetrics } from "./workers.ts";

export interface MetricsOptions extends ClusterSource {
  version: string;
  bun: string;
  limits?: Partial<MetricsLimits>;
}

export interface MetricsLimits {
  /** Models that have series of their own; the rest share one. */
  maxModels: number;
  /** Series by worker, model and outcome that are kept apart. */
  maxWorkerSeries: number;
  /** API keys that have series of their own, and series by key and model; the rest share one. */
  maxKeys: number;
  maxKeySeries: number;
  /** How often the lag of the event loop is measured, and how long a late turn of it is shown. */
  lagIntervalMs: number;
  lagWindowMs: number;
  /** How long a scrape may hold the event loop up at a time, but for a single metric's text. */
  scrapeTurnMs: number;
}

export const METRICS_LIMITS: MetricsLimits = {
  maxModels: 1000,
  maxWorkerSeries: 10_000,
  maxKeys: 1000,
  maxKeySeries: 5000,
  lagIntervalMs: 100,
  lagWindowMs: 60_000,
  scrapeTurnMs: 2,
};

export interface Metrics extends Disposable {
  /** To be called once for every request, when it is over. Never throws. */
  observe(record: RequestRecord): void;
  /** What limits and authentication count. */
  readonly keys: KeyMetrics;
  /** The whole exposition; scrapes at the same time share one. */
  text(): Promise<string>;
  readonly contentType: string;
}

export function createMetrics(options: MetricsOptions): Metrics {
  const limits = { ...METRICS_LIMITS, ...options.limits };
  const registry = createRegistry();
  const modelLabel = createLabelGuard(limits.maxModels);
  // Not one of the models that take the places.
  const label: LabelGuard = (model) => (model === UNRESOLVED ? model : modelLabel(model));
  const keys = registerKeyMetrics(registry, limits);
  const { maxWorkerSeries } = limits;
  const requests = registerRequestMetrics(registry, { label, keys, maxWorkerSeries });
  registerClusterMetrics(registry, options, label);
  registerWorkerMetrics(registry, options);
  const lag = registerProcessMetrics(registry, { ...options, ...limits });

  /** One metric after the other, with turns for the streams between them. */
  const render = async () => {
    const known = new Set(Array.from(options.state.workers.values(), ({ name }) => name));
    requests.prune((worker) => known.has(worker));
    const texts: string[] = [];
    let since = performance.now();
    for (const text of registry.families()) {
      texts.push(await text());
      if (performance.now() - since < limits.scrapeTurnMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      since = performance.now();
    }
    return texts.join("");
  };
  let rendering: Promise<string> | null = null;
  return {
    observe: requests.observe,
    keys,
    text: () => (rendering ??= render().finally(() => (rendering = null))),
    contentType: CONTENT_TYPE,
    [Symbol.dispose]: () => lag[Symbol.dispose](),
  };
}
