/** The metrics of how replicas were picked. */

import type { Router } from "../../cluster/routing/routing.ts";
import type { LabelGuard } from "./labels.ts";
import type { Registry } from "./prometheus.ts";

export interface RoutingSource {
  /** What became of prompts that replicas had in their caches, by model. */
  affinity: Router["affinity"];
}

const RESULTS = ["hit", "miss", "overridden"] as const;

export function registerRoutingMetrics(
  registry: Registry,
  { affinity }: RoutingSource,
  modelLabel: LabelGuard,
): void {
  registry.collected(
    {
      name: "llmnode_affinity_total",
      help: "Prompts by where they went: to the replica that had most of it, elsewhere since too much was to do there, or nobody had any.",
      labelNames: ["model", "result"],
      type: "counter",
    },
    (counter) => {
      for (const [model, counts] of affinity()) {
        for (const result of RESULTS) {
          counter.inc({ model: modelLabel(model), result }, counts[result]);
        }
      }
    },
  );
}
