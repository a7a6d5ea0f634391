/** Everything there is to look at, computed at most a few times a second for all who look. */

import { queueDepths } from "../../cluster/state/queue.ts";
import { findWorker } from "../../cluster/state/named.ts";
import {
  modelDetail,
  modelRows,
  type RowContext,
  workerDetail,
  workerRow,
} from "../../cluster/rows/rows.ts";
import type { Catalog, ClusterState } from "../../cluster/state/state.ts";
import { attentionOf, stripOf, totalsOf } from "../../cluster/rows/totals.ts";
import type { HistoryPoint } from "../../protocol/watch-json.ts";
import type { TotalsJson, WatchFrame } from "../../protocol/watch-json.ts";
import type { ModelRow, RequestRow, WorkerRow } from "../../protocol/watch-rows.ts";
import type { ListedAliases } from "../store/aliases.ts";
import { HISTORY_INTERVAL_MS, createHistory, type History } from "./history.ts";
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
  /** How long what was computed is shown to others. */
  maxAgeMs?: number;
}

/** The cluster at one instant; a row is made once for all who look. */
export interface WatchData {
  at: number;
  /** All of them, those that left too. */
  workers: readonly WorkerRow[];
  models: readonly ModelRow[];
  totals: TotalsJson;
  strip: string;
  attention: WatchFrame["attention"];
  head: { cpu_percent: number | null; memory_bytes: number | null };
}

export interface WatchSource extends Disposable {
  data(): WatchData;
  requests(): readonly RequestRow[];
  /** With engines; null where there is none of that name. */
  worker(name: string): WorkerRow | null;
  model(name: string): ModelRow | null;
  history: History;
}

export function startWatchSource(options: WatchDataOptions): WatchSource {
  const { state, now, rates, requests, maxAgeMs = 200 } = options;
  const history = createHistory();
  let cached: WatchData | null = null;
  let listed: { at: number; rows: readonly RequestRow[] } | null = null;
  let cpu = { at: performance.now(), used: process.cpuUsage() };
  let cpuPercent: number | null = null;

  const context = (): RowContext => ({
    state,
    catalog: options.catalog(),
    now: now(),
    ofWorker: rates.worker,
    ofModel: rates.model,
    outputHistory: rates.outputHistory,
    aliases: [...options.aliases.names()].map((name) => ({
      name,
      models: options.aliases.modelsOf(name) ?? [],
    })),
  });
  const queued = () =>
    [...queueDepths(state.queue).values()].reduce((sum, depth) => sum + depth, 0);

  const compute = (): WatchData => {
    const at = context();
    const workers = [...state.workers.values()].map((worker) => workerRow(at, worker));
    const models = modelRows(at);
    const throughput = rates.all();
    return {
      at: at.now,
      workers,
      models,
      totals: totalsOf(workers, models, {
        ...throughput,
        clients: options.clients(),
        inFlight: state.leases.size,
        queued: queued(),
      }),
      strip: stripOf(workers),
      attention: attentionOf(workers, models),
      head: { cpu_percent: cpuPercent, memory_bytes: process.memoryUsage.rss() },
    };
  };
  const tick = (): void => {
    requests.sample();
    const elapsed = performance.now() - cpu.at;
    const used = process.cpuUsage(cpu.used);
    cpuPercent = elapsed > 0 ? Math.round((used.user + used.system) / elapsed) / 10 : null;
    cpu = { at: performance.now(), used: process.cpuUsage() };
    const { outputTokensPerS, ttftMs } = rates.all();
    const point: HistoryPoint = {
      output_tokens_per_s: outputTokensPerS,
      ttft_p95_ms: ttftMs?.p95 ?? null,
      in_flight: state.leases.size,
      queued: queued(),
    };
    history.push(point);
  };
  const timer = setInterval(tick, HISTORY_INTERVAL_MS);

  return {
    history,
    data() {
      if (cached === null || now() - cached.at >= maxAgeMs) {
        requests.sample();
        cached = compute();
      }
      return cached;
    },
    requests() {
      if (listed === null || now() - listed.at >= maxAgeMs) {
        listed = { at: now(), rows: requests.rows() };
      }
      return listed.rows;
    },
    worker(name) {
      const found = findWorker(state, name);
      return found ? workerDetail(context(), found) : null;
    },
    model(name) {
      const row = this.data().models.find((one) => one.name === name);
      return row ? modelDetail(context(), row) : null;
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
