/** Workers, models and engines as those see them who look: one row each. */

import type {
  EngineRow,
  GpuRow,
  ModelRow,
  Quantiles,
  RowState,
  WorkerRow,
} from "../../protocol/watch-rows.ts";
import { effectiveState } from "../state/candidates.ts";
import { loadOf } from "../state/load.ts";
import { queueDepths } from "../state/queue.ts";
import { badness, engineState, progressOf, workerState } from "./state.ts";
import { isPickable } from "./snapshot.ts";
import type { Catalog, ClusterState, Engine, Replica, Worker } from "../state/state.ts";

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

/** Without engines and small graph: those are for a detail. */
export function workerRow(context: RowContext, worker: Worker): WorkerRow {
  const { now } = context;
  const throughput = context.ofWorker(worker.name);
  const engines = [...worker.engines.values()];
  const loads = engines.map((engine) => loadOf(context.state, engine, now));
  const gpus = worker.hardware.gpus.map(gpuRow);
  return {
    id: worker.id,
    name: worker.name,
    ...workerState(worker, now),
    reason:
      worker.reason ?? engines.find(({ report }) => report.reason !== null)?.report.reason ?? null,
    models: modelsOf(engines),
    gpus,
    gpu_problem: worker.hardware.gpuProblem,
    gpu_util_pct: mean(gpus.map(({ util_pct }) => util_pct)),
    gpu_mem_used_bytes: sum(gpus.map(({ mem_used_bytes }) => mem_used_bytes)),
    gpu_mem_total_bytes: sum(gpus.map(({ mem_total_bytes }) => mem_total_bytes)),
    temp_c: most(gpus.map(({ temp_c }) => temp_c)),
    power_w: sum(gpus.map(({ power_w }) => power_w)),
    in_flight: worker.inFlight,
    queue: sum(loads.map((load) => load?.waiting ?? null)),
    kv_pct: percent(most(loads.map((load) => load?.kvUsage ?? null))),
    requests_per_s: throughput.requestsPerS,
    output_tokens_per_s: throughput.outputTokensPerS,
    ttft_ms: throughput.ttftMs,
    uptime_ms: uptimeOf(worker, engines, now),
    seen_ms: Math.max(0, Math.round(now - worker.lastHeardAt)),
    via: viaOf(engines),
    address: worker.address,
    version: worker.version,
    labels: worker.labels,
    drain: drainOf(context.state, worker),
    engines: null,
    sparkline: null,
  };
}

export function workerDetail(context: RowContext, worker: Worker): WorkerRow {
  return {
    ...workerRow(context, worker),
    engines: [...worker.engines.values()].map((engine) => engineRow(context, worker, engine)),
    sparkline: context.outputHistory(worker.name),
  };
}

function engineRow(context: RowContext, worker: Worker, engine: Engine): EngineRow {
  const { now, state } = context;
  const load = loadOf(state, engine, now);
  // A worker runs one engine: what passes there passes through that.
  const throughput = worker.engines.size === 1 ? context.ofWorker(worker.name) : null;
  const around = workerState(worker, now);
  const own = engineState(engine, now);
  return {
    name: `${worker.name}/${engine.number}`,
    kind: engine.report.kind,
    ...(badness(around.state) < badness(own.state) ? around : own),
    phase: engine.report.phase?.split(" ")[0] ?? null,
    phase_ms:
      engine.report.phaseSince === null
        ? null
        : Math.max(0, Math.round(now - engine.report.phaseSince)),
    progress_pct: progressOf(engine),
    reason: engine.report.reason ?? engine.suspect?.reason ?? null,
    hint: engine.report.hint,
    evidence: engine.report.evidence,
    models: namesOf(engine),
    in_flight: engine.inFlight,
    queue: load?.waiting ?? null,
    kv_pct: percent(load?.kvUsage ?? null),
    max_in_flight: engine.report.maxInFlight,
    output_tokens_per_s: throughput?.outputTokensPerS ?? null,
    ttft_ms: throughput?.ttftMs ?? null,
    restarts: engine.report.restarts,
    pid: engine.report.pid,
    container: engine.report.container,
    port: engine.report.port,
    via: engine.route.via === "unknown" ? null : engine.route.via,
    since_ms: Math.max(0, Math.round(now - engine.report.stateSince)),
  };
}

/** One row for each model and each alias, sorted by name. */
export function modelRows(context: RowContext): ModelRow[] {
  const inFlight = leasesByModel(context.state);
  const queued = queueDepths(context.state.queue);
  const rows = [...context.catalog].map(([name, replicas]) =>
    modelRow(context, {
      name,
      replicas,
      inFlight: inFlight.get(name) ?? 0,
      queued: queued.get(name) ?? 0,
    }),
  );
  const known = new Map(rows.map((row) => [row.name, row]));
  for (const { name, models } of context.aliases) rows.push(aliasRow(name, models, known));
  return rows.sort((a, b) => a.name.localeCompare(b.name));
}

export function modelDetail(context: RowContext, row: ModelRow): ModelRow {
  const replicas = context.catalog.get(row.name) ?? [];
  return {
    ...row,
    engines: replicas.map(({ worker, engine }) => engineRow(context, worker, engine)),
  };
}

function modelRow(
  context: RowContext,
  about: { name: string; replicas: readonly Replica[]; inFlight: number; queued: number },
): ModelRow {
  const { name, replicas } = about;
  const throughput = context.ofModel(name);
  const states = replicas.map(
    (replica) => effectiveState(context.state, replica, context.now).state,
  );
  const count = (wanted: string) => states.filter((one) => one === wanted).length;
  const ready = states.filter(isPickable).length;
  const starting = count("starting");
  return {
    name,
    alias_of: null,
    state:
      ready > 0
        ? "ready"
        : starting > 0
          ? "starting"
          : count("draining") > 0
            ? "draining"
            : "failed",
    ready,
    starting,
    draining: count("draining"),
    replicas: replicas.length,
    kinds: [...new Set(replicas.map(({ engine }) => engine.report.kind))].sort(),
    in_flight: about.inFlight,
    queued: about.queued,
    requests_per_s: throughput.requestsPerS,
    output_tokens_per_s: throughput.outputTokensPerS,
    ttft_ms: throughput.ttftMs,
    itl_ms: throughput.itlMs,
    context: most(replicas.map(({ card }) => card.maxModelLen)),
    error_ratio: throughput.errorRatio,
    workers: [...new Set(replicas.map(({ worker }) => worker.name))].sort(),
    engines: null,
  };
}

/** As its first model that is there. */
function aliasRow(name: string, models: readonly string[], known: Map<string, ModelRow>): ModelRow {
  const targets = models.flatMap((model) => known.get(model) ?? []);
  const best = targets.find(({ ready }) => ready > 0) ?? targets[0];
  const state: RowState = best?.state ?? "failed";
  const none = {
    ready: 0,
    starting: 0,
    draining: 0,
    replicas: 0,
    kinds: [],
    workers: [],
    context: null,
  };
  return {
    ...(best ?? none),
    name,
    alias_of: models.join(", "),
    state,
    // Counted where they run: under the model's own name.
    in_flight: 0,
    queued: 0,
    requests_per_s: null,
    output_tokens_per_s: null,
    ttft_ms: null,
    itl_ms: null,
    error_ratio: null,
    engines: null,
  };
}

function leasesByModel(state: ClusterState): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { model } of state.leases.values()) counts.set(model, (counts.get(model) ?? 0) + 1);
  return counts;
}

function gpuRow(gpu: Worker["hardware"]["gpus"][number]): GpuRow {
  return {
    index: gpu.index,
    uuid: gpu.uuid,
    name: gpu.name,
    util_pct: gpu.utilizationPercent,
    mem_used_bytes: gpu.memoryUsedBytes,
    mem_total_bytes: gpu.memoryTotalBytes,
    temp_c: gpu.temperatureCelsius,
    power_w: gpu.powerWatts,
  };
}

function namesOf(engine: Engine): readonly string[] {
  if (engine.report.service !== null) return [engine.report.service];
  return engine.models.length > 0
    ? engine.models.map(({ id }) => id)
    : engine.report.expectedModels;
}

function modelsOf(engines: readonly Engine[]): WorkerRow["models"] {
  const counts = new Map<string, number>();
  for (const name of engines.flatMap(namesOf)) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => ({ name, engines: count }));
}

/** Of the engine that has run longest without a break. */
function uptimeOf(worker: Worker, engines: readonly Engine[], now: number): number | null {
  if (worker.state === "lost" || worker.state === "left") return null;
  return most(engines.map(({ report }) => Math.max(0, Math.round(now - report.stateSince))));
}

function viaOf(engines: readonly Engine[]): string | null {
  const vias = new Set(engines.map(({ route }) => route.via));
  return (["direct", "lane", "unreachable"] as const).find((via) => vias.has(via)) ?? null;
}

function drainOf(state: ClusterState, { id }: Worker): WorkerRow["drain"] {
  const order = state.drainOrders.get(id);
  if (!order) return null;
  const date = (at: number) => new Date(at).toISOString();
  return {
    since: date(order.since),
    deadline: order.deadline === null ? null : date(order.deadline),
    by: order.who,
    message: order.message,
  };
}

const known = (values: readonly (number | null)[]) => values.filter((value) => value !== null);

/** Null when nothing is known: what is unknown is no zero. */
function sum(values: readonly (number | null)[]): number | null {
  const some = known(values);
  return some.length === 0 ? null : some.reduce((total, value) => total + value, 0);
}

function mean(values: readonly (number | null)[]): number | null {
  const total = sum(values);
  return total === null ? null : total / known(values).length;
}

function most(values: readonly (number | null)[]): number | null {
  const some = known(values);
  return some.length === 0 ? null : Math.max(...some);
}

function percent(share: number | null): number | null {
  return share === null ? null : Math.round(share * 1000) / 10;
}
