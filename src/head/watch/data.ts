/** What viewers see of the cluster, computed at most a few times a second for all, and its past. */

import { queueDepths } from "../../cluster/state/queue.ts";
import { findWorker } from "../../cluster/state/named.ts";
import type { RowContext } from "../../cluster/rows/context.ts";
import { modelDetail, modelRows, serviceRows } from "../../cluster/rows/models.ts";
import { workerDetail, workerDetails, workerRow } from "../../cluster/rows/workers.ts";
import type { Catalog, ClusterState } from "../../cluster/state/state.ts";
import { attentionOf, stripOf, totalsOf } from "../../cluster/rows/totals.ts";
import type { HistoryJson, HistoryPoint, StatusJson } from "../../protocol/watch-json.ts";
import type { ModelRow, RequestRow, WorkerDetail, WorkerRow } from "../../protocol/watch-rows.ts";
import { inTurns } from "../http/lists.ts";
import type { ListedAliases } from "../store/aliases.ts";
import type { Rates } from "./rates.ts";
import type { RequestsTable } from "./requests-table.ts";

export interface WatchDataOptions {
  state: ClusterState;
  catalog: () => Catalog;
  aliases: ListedAliases;
  rates: Rates;
  requests: RequestsTable;
  /** Clients with a request in the last minute. */
  clients: () => number;
  /** Milliseconds since 1970, never going back. */
  now: () => number;
  /** How long a result is shown to other viewers. */
  maxAgeMs?: number;
}

export type WatchData = Awaited<ReturnType<typeof dataNow>>;

export interface WatchSource extends Disposable {
  /** At most `maxAgeMs` old; made over several turns of the event loop, like the status. */
  data(): Promise<WatchData>;
  requests(): readonly RequestRow[];
  /** With engines; null where there is none of that name. */
  worker(name: string): WorkerDetail | null;
  model(row: ModelRow): ModelRow;
  /**
   * All of it, with every detail, to be taken over several turns. A list is of what is there when
   * it begins, and a row of how things are when it is taken, some tens of milliseconds later in a
   * large cluster; ages are those of the moment of the call.
   */
  status(): {
    [list in "workers" | "models" | "services"]: IteratorObject<StatusJson[list][number]>;
  };
  history: History;
}

export function startWatchSource(options: WatchDataOptions): WatchSource {
  const { state, now, rates, requests, maxAgeMs = 200 } = options;
  const history = createHistory();
  const cpu = createCpuMeter();
  let cached: WatchData | null = null;
  let making: Promise<WatchData> | null = null;
  let listed: { at: number; rows: readonly RequestRow[] } | null = null;

  const tick = (): void => {
    requests.sample();
    cpu.measure();
    const { outputTokensPerS, ttftMs } = rates.all();
    history.push({
      output_tokens_per_s: outputTokensPerS,
      ttft_p95_ms: ttftMs?.p95 ?? null,
      in_flight: state.leases.size,
      queued: queued(state),
    });
  };
  const make = async (): Promise<WatchData> => {
    requests.sample();
    cached = await dataNow(options, cpu.percent);
    return cached;
  };
  const timer = setInterval(tick, HISTORY_INTERVAL_MS);

  return {
    history,
    async data() {
      if (cached !== null && now() - cached.at < maxAgeMs) return cached;
      making ??= make().finally(() => (making = null));
      return making;
    },
    requests() {
      if (listed === null || now() - listed.at >= maxAgeMs) {
        listed = { at: now(), rows: requests.rows() };
      }
      return listed.rows;
    },
    worker(name) {
      const found = findWorker(state, name);
      return found ? workerDetail(contextOf(options), found) : null;
    },
    model: (row) => modelDetail(contextOf(options), row),
    status() {
      const at = contextOf(options);
      return { workers: workerDetails(at), models: modelRows(at), services: serviceRows(at) };
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

function contextOf({ state, catalog, now, rates, aliases }: WatchDataOptions): RowContext {
  return {
    state,
    catalog: catalog(),
    now: now(),
    ofWorker: rates.worker,
    ofModel: rates.model,
    outputHistory: rates.outputHistory,
    aliases: [...aliases.names()].map((name) => ({ name, models: aliases.modelsOf(name) ?? [] })),
  };
}

/** The cluster at one instant, workers that have left included; a row is made once for all viewers. */
async function dataNow(options: WatchDataOptions, cpuPercent: number | null) {
  const { state } = options;
  const at = contextOf(options);
  const workers: WorkerRow[] = [];
  const models: ModelRow[] = [];
  await inTurns([...state.workers.values()], (worker) => workers.push(workerRow(at, worker)));
  await inTurns(modelRows(at), (row) => models.push(row));
  return {
    at: at.now,
    workers,
    models,
    totals: totalsOf(workers, models, {
      ...options.rates.all(),
      clients: options.clients(),
      inFlight: state.leases.size,
      queued: queued(state),
    }),
    strip: stripOf(workers),
    attention: attentionOf(workers, models),
    head: { cpu_pct: cpuPercent, mem_used_bytes: process.memoryUsage.rss() },
  };
}

function queued({ queue }: ClusterState): number {
  return [...queueDepths(queue).values()].reduce((sum, depth) => sum + depth, 0);
}

/** How busy this process was between the last two measurements. */
function createCpuMeter() {
  let last = { at: performance.now(), used: process.cpuUsage() };
  let percent: number | null = null;
  return {
    get percent() {
      return percent;
    },
    measure() {
      const elapsed = performance.now() - last.at;
      const used = process.cpuUsage(last.used);
      percent = elapsed > 0 ? Math.round((used.user + used.system) / elapsed) / 10 : null;
      last = { at: performance.now(), used: process.cpuUsage() };
    },
  };
}

type History = ReturnType<typeof createHistory>;

const HISTORY_INTERVAL_MS = 2000;
const DEFAULT_POINTS = 450;

const FIELDS = ["output_tokens_per_s", "ttft_p95_ms", "in_flight", "queued"] as const;

/**
 * The last 15 minutes in points of 2 s, so that a viewer begins with a past. One typed array for
 * all: 450 points are 14 KB, and nothing is left for the collector.
 */
export function createHistory(points = DEFAULT_POINTS) {
  // Not a number is what is not known.
  const values = new Float64Array(points * FIELDS.length).fill(Number.NaN);
  let count = 0;

  const value = (index: number, field: number): number | null => {
    const found = values[(index % points) * FIELDS.length + field] ?? Number.NaN;
    return Number.isNaN(found) ? null : found;
  };
  const point = (index: number): HistoryPoint => ({
    output_tokens_per_s: value(index, 0),
    ttft_p95_ms: value(index, 1),
    in_flight: value(index, 2) ?? 0,
    queued: value(index, 3) ?? 0,
  });
  return {
    push(next: HistoryPoint) {
      const at = (count % points) * FIELDS.length;
      for (const [i, field] of FIELDS.entries()) values[at + i] = next[field] ?? Number.NaN;
      count += 1;
    },
    /** The oldest first. */
    json: (): HistoryJson => ({
      interval_ms: HISTORY_INTERVAL_MS,
      points: Array.from({ length: Math.min(count, points) }, (_, i) =>
        point(Math.max(0, count - points) + i),
      ),
    }),
    /** How many points there were in all. */
    get count() {
      return count;
    },
    get latest() {
      return count === 0 ? null : point(count - 1);
    },
  };
}
