/** The cluster at one instant, as JSON that leaves the process. */

import type { Catalog } from "./catalog.ts";
import { replicasOf } from "./catalog.ts";
import type { ClusterState, Engine, Worker } from "./state.ts";

/** `GET /api/v1/status`; unknown is null, changes are additive. */
export interface StatusJson {
  schema: "llmnode.status/1";
  head: { id: string; version: string; time: string };
  workers: WorkerJson[];
  models: ModelJson[];
}

export interface WorkerJson {
  id: string;
  name: string;
  state: string;
  reason: string | null;
  /** How requests reach it: "direct", "lane", "unreachable", or null while unknown. */
  via: string | null;
  /** Since it was last heard. */
  age_ms: number;
  engines: EngineJson[];
}

export interface EngineJson {
  id: string;
  kind: string;
  state: string;
  phase: string | null;
  reason: string | null;
  replicas: { model: string; state: string; in_flight: number }[];
}

export interface ModelJson {
  name: string;
  /** Replicas that can be picked now. */
  ready: number;
  replicas: number;
  in_flight: number;
}

export function statusJson(
  context: { state: ClusterState; catalog: Catalog },
  head: { id: string; version: string },
  now: number,
): StatusJson {
  const { state, catalog } = context;
  const inFlight = countInFlight(state);
  const workers = [...state.workers.values()].sort((a, b) => a.name.localeCompare(b.name));
  const models = [...catalog].sort(([a], [b]) => a.localeCompare(b));
  return {
    schema: "llmnode.status/1",
    head: { ...head, time: new Date(now).toISOString() },
    workers: workers.map((worker) => workerJson(worker, inFlight, now)),
    models: models.map(([name, replicas]) => ({
      name,
      ready: replicas.filter((replica) => replica.state === "ready").length,
      replicas: replicas.length,
      in_flight: replicas.reduce(
        (sum, { engine }) => sum + (inFlight.get(replicaKey(engine.key, name)) ?? 0),
        0,
      ),
    })),
  };
}

function workerJson(worker: Worker, inFlight: Map<string, number>, now: number): WorkerJson {
  const engines = [...worker.engines.values()];
  return {
    id: worker.id,
    name: worker.name,
    state: worker.state,
    reason: worker.reason,
    via: viaOf(engines),
    age_ms: Math.max(0, Math.round(now - worker.lastHeardAt)),
    engines: engines.map((engine) => ({
      id: `${worker.name}/${engine.number}`,
      kind: engine.kind,
      state: engine.state,
      phase: engine.phase,
      reason: engine.reason ?? (engine.route.via === "unreachable" ? engine.route.reason : null),
      replicas: replicasOf(worker, engine).map((replica) => ({
        model: replica.card.id,
        state: replica.state,
        in_flight: inFlight.get(replicaKey(engine.key, replica.card.id)) ?? 0,
      })),
    })),
  };
}

function viaOf(engines: readonly Engine[]): string | null {
  const ways = new Set(engines.map((engine) => engine.route.via));
  for (const way of ["direct", "lane", "unreachable"] as const) if (ways.has(way)) return way;
  return null;
}

function countInFlight(state: ClusterState): Map<string, number> {
  const counts = new Map<string, number>();
  for (const lease of state.leases.values()) {
    const key = replicaKey(lease.engineKey, lease.model);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

function replicaKey(engineKey: string, model: string): string {
  return `${engineKey} ${model}`;
}
