/** The metrics that are facts of the cluster: read at each scrape, kept nowhere. */

import { admits, breakerAt } from "../../cluster/faults/breaker.ts";
import type { Router } from "../../cluster/routing/routing.ts";
import { queueDepths } from "../../cluster/state/queue.ts";
import { isKnownModel } from "../../cluster/state/registry.ts";
import { serviceCatalog } from "../../cluster/state/catalog.ts";
import type { Catalog, ClusterState, Worker, WorkerState } from "../../cluster/state/state.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import type { LabelGuard } from "./labels.ts";
import type { Registry } from "./prometheus.ts";

export interface ClusterSource {
  state: ClusterState;
  catalog: () => Catalog;
  /** What became of prompts that replicas had in their caches, by model. */
  affinity: Router["affinity"];
  /** Milliseconds since 1970. */
  now: () => number;
}

/** States of a worker whose session is heard. */
const UP: ReadonlySet<WorkerState> = new Set(["ready", "draining", "drained"]);

const BREAKER_VALUE = { closed: 0, half_open: 1, open: 2 };

const AFFINITY_RESULTS = ["hit", "miss", "overridden"] as const;

export function registerClusterMetrics(
  registry: Registry,
  source: ClusterSource,
  modelLabel: LabelGuard,
): void {
  registerRequestGauges(registry, source, modelLabel);
  registerWorkerGauges(registry, source);
  registerReplicaGauges(registry, source, modelLabel);
}

function registerRequestGauges(
  registry: Registry,
  { state, catalog, affinity, now }: ClusterSource,
  modelLabel: LabelGuard,
): void {
  registry.collected(
    {
      name: "llmnode_requests_in_flight",
      help: "Requests that hold a replica now.",
      labelNames: ["model"],
    },
    function* (gauge) {
      // Counted in one go: leases come and go between the steps.
      const counts = new Map<string, number>();
      for (const { model } of state.leases.values()) {
        counts.set(model, (counts.get(model) ?? 0) + 1);
      }
      for (const model of catalog().keys()) yield gauge.inc({ model: modelLabel(model) }, 0);
      for (const [model, count] of counts) yield gauge.inc({ model: modelLabel(model) }, count);
    },
  );
  registry.collected(
    {
      name: "llmnode_queue_depth",
      help: "Requests that wait for a replica of the model, or service.",
      labelNames: ["model"],
    },
    function* (gauge) {
      const depths = queueDepths(state.queue);
      const offers = [...catalog().keys(), ...serviceCatalog(state).keys()];
      for (const name of offers) yield gauge.inc({ model: modelLabel(name) }, 0);
      const known = new Set(offers);
      for (const [name, depth] of depths) {
        // Clients may ask for any name, and wait for it a while.
        const isKnown = known.has(name) || isKnownModel(state, name, now());
        yield gauge.inc({ model: isKnown ? modelLabel(name) : UNRESOLVED }, depth);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_affinity_total",
      help: "Prompts by where they went: hit: to the replica with most of the prompt in its cache; overridden: elsewhere, since that replica was too busy; miss: no replica had any of it.",
      labelNames: ["model", "result"],
      type: "counter",
    },
    function* (counter) {
      for (const [model, counts] of affinity()) {
        for (const result of AFFINITY_RESULTS) {
          yield counter.inc({ model: modelLabel(model), result }, counts[result]);
        }
      }
    },
  );
}

function registerWorkerGauges(registry: Registry, { state, now }: ClusterSource): void {
  registry.collected(
    {
      name: "llmnode_worker_up",
      help: "Whether the worker is connected and answers: 1 yes, 0 no.",
      labelNames: ["worker"],
      ownSeries: true,
    },
    function* (gauge) {
      for (const worker of workersOf(state)) {
        yield gauge.set({ worker: worker.name }, UP.has(worker.state) ? 1 : 0);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_worker_heartbeat_age_seconds",
      help: "Time since the last message of the worker; absent once it has left.",
      labelNames: ["worker"],
      ownSeries: true,
    },
    function* (gauge) {
      for (const worker of workersOf(state)) {
        if (worker.left) continue;
        const ageMs = Math.max(0, now() - worker.lastHeardAt);
        yield gauge.set({ worker: worker.name }, ageMs / 1000);
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_engine_restarts_total",
      help: "Restarts of the worker's engines, by why the engine had ended.",
      labelNames: ["worker", "reason"],
      ownSeries: true,
      type: "counter",
    },
    function* (counter) {
      for (const worker of workersOf(state)) {
        for (const { restartReasons } of worker.engines.values()) {
          for (const [reason, restarts] of restartReasons) {
            counter.inc({ worker: worker.name, reason }, restarts);
          }
        }
        yield;
      }
    },
  );
}

function registerReplicaGauges(
  registry: Registry,
  { state, catalog, now }: ClusterSource,
  modelLabel: LabelGuard,
): void {
  registry.collected(
    {
      name: "llmnode_replica_ready",
      help: "Replicas of the model, or service, on the worker that can be picked now.",
      labelNames: ["worker", "model"],
    },
    function* (gauge) {
      for (const [model, replicas] of [...catalog(), ...serviceCatalog(state)]) {
        const label = modelLabel(model);
        for (const replica of replicas) {
          const isOpen = !admits(replica.engine.breaker, now());
          const ready = replica.state === "ready" && !isOpen ? 1 : 0;
          yield gauge.inc({ worker: replica.worker.name, model: label }, ready);
        }
      }
    },
  );
  registry.collected(
    {
      name: "llmnode_breaker_state",
      help: "Circuit breaker of the replica: 0 closed, 1 half open (one request is let through), 2 open (it gets none).",
      labelNames: ["worker", "model"],
    },
    function* (gauge) {
      for (const [model, replicas] of [...catalog(), ...serviceCatalog(state)]) {
        const label = modelLabel(model);
        // Of several engines of a worker the worst counts.
        const worst = new Map<string, number>();
        for (const { worker, engine } of replicas) {
          const value = BREAKER_VALUE[breakerAt(engine.breaker, now()).state];
          worst.set(worker.name, Math.max(worst.get(worker.name) ?? 0, value));
        }
        for (const [worker, value] of worst) yield gauge.set({ worker, model: label }, value);
      }
    },
  );
}

/** Those of now: while they are gone through in steps, others come and go. */
export function workersOf(state: ClusterState): Worker[] {
  return [...state.workers.values()];
}
