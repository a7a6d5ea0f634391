/** The cluster at one instant, as JSON that leaves the process. */

import { effectiveState } from "../state/candidates.ts";
import { replicasOf } from "../state/catalog.ts";
import { loadOf } from "../state/load.ts";
import { type DrainJson, drainJson } from "./snapshot-drain.ts";
import { queueDepths } from "../state/queue.ts";
import { serviceCatalog, serviceReplicaOf } from "../state/services.ts";
import type { Catalog, ClusterState, Engine, ReplicaState, Worker } from "../state/state.ts";
import { hardwareJson, type HardwareJson } from "../state/telemetry.ts";

/** `GET /api/v1/status`; unknown is null, changes are additive. */
export interface StatusJson {
  schema: "llmnode.status/1";
  head: { id: string; version: string; time: string };
  workers: WorkerJson[];
  models: ModelJson[];
  services: ServiceJson[];
}

export interface WorkerJson {
  id: string;
  name: string;
  state: string;
  reason: string | null;
  /** What an operator ordered of it. */
  drain: DrainJson | null;
  /** How requests reach it: "direct", "lane", "unreachable", or null while unknown. */
  via: string | null;
  /** Since it was last heard. */
  age_ms: number;
  host: HardwareJson["host"];
  gpus: HardwareJson["gpus"];
  gpu_problem: HardwareJson["gpu_problem"];
  engines: EngineJson[];
}

export interface EngineJson {
  id: string;
  kind: string;
  state: string;
  /** How long it has been in it. */
  state_ms: number;
  phase: string | null;
  /** How long it has been in its phase. */
  phase_ms: number | null;
  reason: string | null;
  /** The UUIDs of the GPUs that it may use; empty: all of its machine, or it is not known. */
  gpus: readonly string[];
  /** Why it ended last, until it is ready again: a word, what to do, and the log's own lines. */
  failure: string | null;
  hint: string | null;
  evidence: readonly string[];
  restarts: number;
  pid: number | null;
  /** Whether its worker took it over, running, from an earlier life of itself. */
  adopted: boolean;
  /** Name or short id of its container, or its compose project. */
  container: string | null;
  /** Requests that it should have at once. */
  max_in_flight: number | null;
  /** GPUs that its command asks for. */
  gpus_wanted: number | null;
  /** What it says itself about its load; null where it does not, or not lately. */
  load: LoadJson | null;
  replicas: { model: string; state: string; in_flight: number }[];
  /** The service that it is offered as; null for an engine with models. */
  service: ServiceReplicaJson | null;
}

/** An engine's part in a service. */
export interface ServiceReplicaJson {
  name: string;
  state: string;
  in_flight: number;
}

export interface LoadJson {
  running: number | null;
  waiting: number | null;
  /** 0 to 1. */
  kv_usage: number | null;
  prefix_hit_tokens: number | null;
  prefix_query_tokens: number | null;
  age_ms: number;
}

export interface ModelJson {
  name: string;
  /** Replicas that can be picked now. */
  ready: number;
  replicas: number;
  in_flight: number;
  /** Requests that wait for a replica. */
  queued: number;
}

/** HTTP servers that are asked for by name; the figures are those of models. */
export type ServiceJson = ModelJson;

export function statusJson(
  context: { state: ClusterState; catalog: Catalog },
  head: { id: string; version: string },
  now: number,
): StatusJson {
  const { state, catalog } = context;
  const inFlight = countInFlight(state);
  const workers = [...state.workers.values()].sort((a, b) => a.name.localeCompare(b.name));
  return {
    schema: "llmnode.status/1",
    head: { ...head, time: new Date(now).toISOString() },
    workers: workers.map((worker) => workerJson(worker, { state, inFlight }, now)),
    models: offersJson(catalog, { state, inFlight, now }),
    services: offersJson(serviceCatalog(state), { state, inFlight, now }),
  };
}

function offersJson(
  offers: Catalog,
  { state, inFlight, now }: { state: ClusterState; inFlight: Map<string, number>; now: number },
): ModelJson[] {
  const queued = queueDepths(state.queue);
  return [...offers]
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, replicas]) => ({
      name,
      ready: replicas.filter((replica) => isPickable(effectiveState(state, replica, now).state))
        .length,
      replicas: replicas.length,
      in_flight: replicas.reduce(
        (sum, { engine }) => sum + (inFlight.get(replicaKey(engine.key, name)) ?? 0),
        0,
      ),
      queued: queued.get(name) ?? 0,
    }));
}

/** One that is overloaded is picked where nobody else is free. */
export function isPickable(state: ReplicaState): boolean {
  return state === "ready" || state === "overloaded";
}

function workerJson(
  worker: Worker,
  { state, inFlight }: { state: ClusterState; inFlight: Map<string, number> },
  now: number,
): WorkerJson {
  const engines = [...worker.engines.values()];
  return {
    id: worker.id,
    name: worker.name,
    state: worker.state,
    reason: worker.reason,
    drain: orderJson(state, worker),
    via: viaOf(engines),
    age_ms: Math.max(0, Math.round(now - worker.lastHeardAt)),
    ...hardwareJson(worker.hardware, now),
    engines: engines.map((engine) => ({
      id: `${worker.name}/${engine.number}`,
      kind: engine.report.kind,
      state: engine.report.state === "ready" && engine.suspect ? "suspect" : engine.report.state,
      state_ms: Math.max(0, Math.round(now - engine.report.stateSince)),
      phase: engine.report.phase,
      phase_ms:
        engine.report.phaseSince === null
          ? null
          : Math.max(0, Math.round(now - engine.report.phaseSince)),
      reason:
        engine.report.reason ??
        engine.suspect?.reason ??
        (engine.route.via === "unreachable" ? engine.route.reason : null),
      gpus: engine.report.gpus,
      failure: engine.report.failure,
      hint: engine.report.hint,
      evidence: engine.report.evidence,
      restarts: engine.report.restarts,
      pid: engine.report.pid,
      adopted: engine.report.adopted,
      container: engine.report.container,
      max_in_flight: engine.report.maxInFlight,
      gpus_wanted: engine.report.gpusWanted,
      load: loadJson(state, engine, now),
      replicas: replicasOf(worker, engine).map((replica) => ({
        model: replica.card.id,
        state: effectiveState(state, replica, now).state,
        in_flight: inFlight.get(replicaKey(engine.key, replica.card.id)) ?? 0,
      })),
      service: serviceJson({ state, worker, engine }, now),
    })),
  };
}

function orderJson(state: ClusterState, { id }: Worker): DrainJson | null {
  const order = state.drainOrders.get(id);
  return order === undefined ? null : drainJson(order);
}

function serviceJson(
  { state, worker, engine }: { state: ClusterState; worker: Worker; engine: Engine },
  now: number,
): ServiceReplicaJson | null {
  const replica = serviceReplicaOf(worker, engine);
  if (!replica) return null;
  const { state: shown } = effectiveState(state, replica, now);
  return { name: replica.card.id, state: shown, in_flight: engine.inFlight };
}

function loadJson(state: ClusterState, engine: Engine, now: number): LoadJson | null {
  const load = loadOf(state, engine, now);
  return (
    load && {
      running: load.running,
      waiting: load.waiting,
      kv_usage: load.kvUsage,
      prefix_hit_tokens: load.prefixHitTokens,
      prefix_query_tokens: load.prefixQueryTokens,
      age_ms: Math.max(0, Math.round(now - load.sampledAt)),
    }
  );
}

function viaOf(engines: readonly Engine[]): string | null {
  const vias = new Set(engines.map((engine) => engine.route.via));
  for (const via of ["direct", "lane", "unreachable"] as const) if (vias.has(via)) return via;
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
