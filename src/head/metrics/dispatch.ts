/** The metrics of requests that wait, and of engines that are kept from requests. */

import { breakerAt } from "../../cluster/faults/breaker.ts";
import { queueDepths } from "../../cluster/state/queue.ts";
import { isKnownModel } from "../../cluster/state/registry.ts";
import { serviceCatalog } from "../../cluster/state/services.ts";
import type { ClusterSource } from "./cluster.ts";
import type { LabelGuard } from "./labels.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import type { Registry } from "./prometheus.ts";

const BREAKER_VALUE = { closed: 0, half_open: 1, open: 2 };

export function registerDispatchMetrics(
  registry: Registry,
  { state, catalog, now }: ClusterSource,
  modelLabel: LabelGuard,
): void {
  registry.collected(
    {
      name: "llmnode_queue_depth",
      help: "Requests that wait for a replica of the model, or service.",
      labelNames: ["model"],
    },
    (gauge) => {
      const offers = [...catalog().keys(), ...serviceCatalog(state).keys()];
      for (const name of offers) gauge.inc({ model: modelLabel(name) }, 0);
      const known = new Set(offers);
      for (const [name, depth] of queueDepths(state.queue)) {
        // Clients may ask for any name, and wait for it a while.
        const isKnown = known.has(name) || isKnownModel(state, name, now());
        gauge.inc({ model: isKnown ? modelLabel(name) : UNRESOLVED }, depth);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_breaker_state",
      help: "Whether requests are kept from the replica: 0 no, 1 one is let through, 2 yes.",
      labelNames: ["worker", "model"],
    },
    (gauge) => {
      for (const [model, replicas] of [...catalog(), ...serviceCatalog(state)]) {
        // Of several engines of a worker the worst counts.
        const worst = new Map<string, number>();
        for (const { worker, engine } of replicas) {
          const value = BREAKER_VALUE[breakerAt(engine.breaker, now()).state];
          worst.set(worker.name, Math.max(worst.get(worker.name) ?? 0, value));
        }
        for (const [worker, value] of worst) gauge.set({ worker, model: modelLabel(model) }, value);
      }
    },
  );
}
