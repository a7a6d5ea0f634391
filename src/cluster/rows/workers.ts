/** Workers as viewers see them: one row each. */

import type { DrainRow, WorkerDetail, WorkerRow } from "../../protocol/watch-rows.ts";
import type { DrainOrder } from "../state/drain-order.ts";
import { loadOf } from "../state/load.ts";
import type { ClusterState, Engine, Worker } from "../state/state.ts";
import { ageOf, mean, most, percent, type RowContext, sum, tally } from "./context.ts";
import { engineRows, namesOf, routeOf } from "./engines.ts";
import { gpuDetail, gpuRow, hostRow } from "./hardware.ts";
import { workerState } from "./state.ts";

/** Without machine, engines and small graph: those are for a detail. */
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
    seen_ms: ageOf(worker.lastHeardAt, now),
    route: routeOf(engines),
    address: worker.address,
    version: worker.version,
    labels: worker.labels,
    drain: drainOf(context.state, worker),
    host: null,
    engines: null,
    sparkline: null,
  };
}

export function workerDetail(
  context: RowContext,
  worker: Worker,
  rowOf = engineRows(context),
): WorkerDetail {
  const { now } = context;
  const { host, gpus } = worker.hardware;
  return {
    ...workerRow(context, worker),
    gpus: gpus.map((gpu) => gpuDetail(gpu, now)),
    host: host && hostRow(host, now),
    engines: [...worker.engines.values()].map((engine) => rowOf(worker, engine)),
    sparkline: context.outputHistory(worker.name),
  };
}

/** All that are there now with their details, by name; each row as it is when it is taken. */
export function* workerDetails(context: RowContext): Generator<WorkerDetail> {
  const rowOf = engineRows(context);
  const workers = [...context.state.workers.values()];
  workers.sort((a, b) => a.name.localeCompare(b.name));
  for (const worker of workers) yield workerDetail(context, worker, rowOf);
}

function modelsOf(engines: readonly Engine[]): WorkerRow["models"] {
  return [...tally(engines.flatMap(namesOf))].map(([name, count]) => ({ name, engines: count }));
}

/** Of the engine that has run longest without a break. */
function uptimeOf(worker: Worker, engines: readonly Engine[], now: number): number | null {
  if (worker.state === "lost" || worker.state === "left") return null;
  return most(engines.map(({ report }) => ageOf(report.stateSince, now)));
}

function drainOf({ drainOrders }: ClusterState, { id }: Worker): DrainRow | null {
  const order = drainOrders.get(id);
  return order === undefined ? null : drainRow(order);
}

export function drainRow(order: DrainOrder): DrainRow {
  return {
    id: order.id,
    purpose: order.purpose,
    stage: order.stage,
    who: order.who,
    message: order.message,
    since: new Date(order.since).toISOString(),
    deadline: order.deadline === null ? null : new Date(order.deadline).toISOString(),
    engine: order.engine,
    cut_off: order.cutOff,
  };
}
