/** The metrics that are facts of the cluster: read at each scrape, kept nowhere. */

import { admits } from "../../cluster/faults/breaker.ts";
import { serviceCatalog } from "../../cluster/state/services.ts";
import type { Catalog, ClusterState, WorkerState } from "../../cluster/state/state.ts";
import type { LabelGuard } from "./labels.ts";
import type { Registry } from "./prometheus.ts";

export interface ClusterSource {
  state: ClusterState;
  catalog: () => Catalog;
  /** Milliseconds since 1970. */
  now: () => number;
}

/** States of a worker whose session is heard. */
const UP: ReadonlySet<WorkerState> = new Set(["ready", "draining", "drained"]);

export function registerClusterMetrics(
  registry: Registry,
  source: ClusterSource,
  modelLabel: LabelGuard,
): void {
  const { state, catalog, now } = source;
  registry.collected(
    {
      name: "llmnode_requests_in_flight",
      help: "Requests that hold a replica now.",
      labelNames: ["model"],
    },
    (gauge) => {
      for (const model of catalog().keys()) gauge.inc({ model: modelLabel(model) }, 0);
      for (const { model } of state.leases.values()) gauge.inc({ model: modelLabel(model) });
    },
  );
  registry.collected(
    {
      name: "llmnode_worker_up",
      help: "Whether the worker's session is heard.",
      labelNames: ["worker"],
    },
    (gauge) => {
      for (const worker of state.workers.values()) {
        gauge.set({ worker: worker.name }, UP.has(worker.state) ? 1 : 0);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_worker_heartbeat_age_seconds",
      help: "Time since the worker was last heard; absent once it has left.",
      labelNames: ["worker"],
    },
    (gauge) => {
      for (const worker of state.workers.values()) {
        if (worker.left) continue;
        const ageMs = Math.max(0, now() - worker.lastHeardAt);
        gauge.set({ worker: worker.name }, ageMs / 1000);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_replica_ready",
      help: "Replicas of the model, or service, on the worker that can be picked now.",
      labelNames: ["worker", "model"],
    },
    (gauge) => {
      for (const [model, replicas] of [...catalog(), ...serviceCatalog(state)]) {
        const label = modelLabel(model);
        for (const replica of replicas) {
          const isOpen = !admits(replica.engine.breaker, now());
          const ready = replica.state === "ready" && !isOpen ? 1 : 0;
          gauge.inc({ worker: replica.worker.name, model: label }, ready);
        }
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_engine_restarts_total",
      help: "Restarts of the worker's engines, by the word for why they had ended.",
      labelNames: ["worker", "reason"],
      type: "counter",
    },
    (counter) => {
      for (const worker of state.workers.values()) {
        for (const { restartReasons } of worker.engines.values()) {
          for (const [reason, restarts] of restartReasons) {
            counter.inc({ worker: worker.name, reason }, restarts);
          }
        }
      }
    },
  );
}
