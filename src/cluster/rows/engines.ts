/** Engines as viewers see them: one row each. */

import { showReport } from "../../protocol/engine-report.ts";
import type { EngineRow, ReplicaRow } from "../../protocol/watch-rows.ts";
import { effectiveState } from "../state/candidates.ts";
import { replicasOf, serviceReplicaOf } from "../state/catalog.ts";
import { loadOf } from "../state/load.ts";
import type { Engine, Worker } from "../state/state.ts";
import { ageOf, percent, type RowContext, tally } from "./context.ts";
import { badness, engineState, progressOf, workerState } from "./state.ts";

/** Gives rows of engines, all of one moment. */
export function engineRows(context: RowContext): (worker: Worker, engine: Engine) => EngineRow {
  const inFlight = tally(
    context.state.leases.values().map(({ engineKey, model }) => replicaKey(engineKey, model)),
  );
  return (worker, engine) => engineRow(context, { worker, engine, inFlight });
}

interface Place {
  worker: Worker;
  engine: Engine;
  inFlight: ReadonlyMap<string, number>;
}

function engineRow(context: RowContext, place: Place): EngineRow {
  const { now, state } = context;
  const { worker, engine } = place;
  const { report, route } = engine;
  const load = loadOf(state, engine, now);
  // A worker runs one engine: what passes there passes through that.
  const throughput = worker.engines.size === 1 ? context.ofWorker(worker.name) : null;
  const around = workerState(worker, now);
  const own = engineState(engine, now);
  const isWorse = badness(around.state) < badness(own.state);
  return {
    ...showReport(report, now),
    name: `${worker.name}/${engine.number}`,
    worker: worker.name,
    ...(isWorse ? around : own),
    reason:
      (isWorse ? worker.reason : null) ??
      report.reason ??
      engine.suspect?.reason ??
      (route.via === "unreachable" ? route.reason : null),
    progress_pct: progressOf(engine),
    models: namesOf(engine),
    gpus: gpusOf(place),
    in_flight: engine.inFlight,
    running: load?.running ?? null,
    queue: load?.waiting ?? null,
    kv_pct: percent(load?.kvUsage ?? null),
    prefix_hit_tokens: load?.prefixHitTokens ?? null,
    prefix_query_tokens: load?.prefixQueryTokens ?? null,
    load_age_ms: load === null ? null : ageOf(load.sampledAt, now),
    output_tokens_per_s: throughput?.outputTokensPerS ?? null,
    ttft_ms: throughput?.ttftMs ?? null,
    route: routeOf([engine]),
    replicas: replicaRows(context, place),
  };
}

/** The models that it has, or its command names; a service has its own name. */
export function namesOf({ report, models }: Engine): readonly string[] {
  if (report.service !== null) return [report.service];
  return models.length > 0 ? models.map(({ id }) => id) : report.expectedModels;
}

export function routeOf(engines: readonly Engine[]): string | null {
  const routes = new Set(engines.map(({ route }) => route.via));
  return (["direct", "lane", "unreachable"] as const).find((route) => routes.has(route)) ?? null;
}

/** An engine that was given none in particular may use all of its machine. */
function gpusOf({ worker, engine }: Place): number[] | null {
  const { gpus: own } = engine.report;
  const used = worker.hardware.gpus.filter(({ uuid }) => own.length === 0 || own.includes(uuid));
  return used.length === 0 ? null : used.map(({ index }) => index);
}

function replicaRows(
  { state, now }: RowContext,
  { worker, engine, inFlight }: Place,
): ReplicaRow[] {
  const service = serviceReplicaOf(worker, engine);
  const replicas = service === null ? replicasOf(worker, engine) : [service];
  return replicas.map((replica) => ({
    name: replica.card.id,
    state: effectiveState(state, replica, now).state,
    in_flight:
      service === null
        ? (inFlight.get(replicaKey(engine.key, replica.card.id)) ?? 0)
        : engine.inFlight,
  }));
}

function replicaKey(engineKey: string, model: string): string {
  return `${engineKey} ${model}`;
}
