/** Writes `GET /metrics` in Prometheus' text format: requests, keys, the cluster, this process. */

import { Pace } from "../../util/flow/slices.ts";
import { chunkedAnswer, oneForAll } from "../http/lists.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import { type ClusterSource, registerClusterMetrics } from "./cluster.ts";
import { registerKeyMetrics } from "./keys.ts";
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

const METRICS_LIMITS = {
  /** Models that have series of their own; the rest share one. */
  maxModels: 1000,
  /** Series by worker, model and outcome that are kept apart. */
  maxWorkerSeries: 10_000,
  /** API keys that have series of their own, and series by key and model; the rest share one. */
  maxKeys: 1000,
  maxKeySeries: 5000,
  /** How often the lag of the event loop is measured, and how long a late turn of it is shown. */
  lagIntervalMs: 250,
  lagWindowMs: 60_000,
};
export type MetricsLimits = typeof METRICS_LIMITS;

export type Metrics = ReturnType<typeof createMetrics>;

export function createMetrics(options: MetricsOptions) {
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

  const render = oneForAll(() => {
    const known = new Set(Array.from(options.state.workers.values(), ({ name }) => name));
    requests.prune((worker) => known.has(worker));
    return registry.chunks(new Pace());
  });
  return {
    /** To be called once for every request, when it is over. Never throws. */
    observe: requests.observe,
    /** What limits and authentication count. */
    keys,
    /** The whole exposition; scrapes at the same time share one. */
    answer: async () => chunkedAnswer(await render(), { "content-type": CONTENT_TYPE }),
    [Symbol.dispose]: () => lag[Symbol.dispose](),
  };
}
