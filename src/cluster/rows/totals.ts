/** The cluster in numbers: what the head of every screen says. */

import { type TotalsJson, type WatchFrame } from "../../protocol/watch-json.ts";
import {
  type ModelRow,
  type RowState,
  STATE_MARKS,
  type WorkerRow,
} from "../../protocol/watch-rows.ts";
import { badness } from "./state.ts";
import { mean, sum, tally, type Throughput } from "./context.ts";

/** What passes through all of it, and what rows do not hold. */
export interface ClusterThroughput extends Throughput {
  inputTokensPerS: number | null;
  retries: number;
  resumed: number;
  clients: number | null;
  inFlight: number;
  queued: number;
}

export function totalsOf(
  workers: readonly WorkerRow[],
  models: readonly ModelRow[],
  throughput: ClusterThroughput,
): TotalsJson {
  const here = workers.filter(({ state }) => state !== "left");
  const count = (...states: RowState[]) =>
    here.filter(({ state }) => states.includes(state)).length;
  const own = models.filter(({ alias_of }) => alias_of === null);
  return {
    workers: {
      total: here.length,
      ready: count("ready"),
      starting: count("starting"),
      draining: count("draining", "drained"),
      stale: count("stale"),
      lost: count("lost"),
      failed: count("failed", "unhealthy", "suspect"),
    },
    gpus: gpuTotals(here),
    models: { total: own.length, ready: own.filter(({ ready }) => ready > 0).length },
    replicas: {
      total: sum(own.map(({ replicas }) => replicas)) ?? 0,
      ready: sum(own.map(({ ready }) => ready)) ?? 0,
    },
    requests_per_s: throughput.requestsPerS,
    input_tokens_per_s: throughput.inputTokensPerS,
    output_tokens_per_s: throughput.outputTokensPerS,
    ttft_ms: throughput.ttftMs,
    itl_ms: throughput.itlMs,
    in_flight: throughput.inFlight,
    queued: throughput.queued,
    error_ratio: throughput.errorRatio,
    retries: throughput.retries,
    resumed: throughput.resumed,
    clients: throughput.clients,
  };
}

function gpuTotals(workers: readonly WorkerRow[]): TotalsJson["gpus"] {
  const all = workers.flatMap(({ gpus }) => gpus);
  const ready = workers.filter(({ state }) => state === "ready");
  return {
    total: all.length,
    ready: ready.flatMap(({ gpus }) => gpus).length,
    name: commonest(all.map(({ name }) => name)),
    util_pct: mean(all.map(({ util_pct }) => util_pct)),
    mem_used_bytes: sum(all.map(({ mem_used_bytes }) => mem_used_bytes)),
    mem_total_bytes: sum(all.map(({ mem_total_bytes }) => mem_total_bytes)),
    power_w: sum(all.map(({ power_w }) => power_w)),
  };
}

function commonest(names: readonly string[]): string | null {
  const [best] = [...tally(names)].sort((a, b) => b[1] - a[1]);
  return best?.[0].replace(/^(?:NVIDIA|AMD)\s+/i, "") ?? null;
}

/** Marks in the order of names. */
const MAX_STRIP = 1000;

export function stripOf(workers: readonly WorkerRow[]): string {
  return workers
    .filter(({ state }) => state !== "left")
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .slice(0, MAX_STRIP)
    .map(({ state }) => STATE_MARKS[state])
    .join("");
}

const MAX_ATTENTION = 5;

/** What a person should look at, worst first. */
export function attentionOf(
  workers: readonly WorkerRow[],
  models: readonly ModelRow[],
): WatchFrame["attention"] {
  const troubled = workers
    .filter(({ state }) => TROUBLES.has(state))
    .toSorted((a, b) => badness(a.state) - badness(b.state) || (a.name < b.name ? -1 : 1))
    .map((row) => ({ worker: row.name, model: null, text: troubleText(row) }));
  const short = models
    .filter(
      ({ alias_of, ready, replicas, starting }) =>
        alias_of === null && ready === 0 && replicas > 0 && starting === 0,
    )
    .map(({ name }) => ({ worker: null, model: name, text: `${name} has no ready replica` }));
  return [...troubled, ...short].slice(0, MAX_ATTENTION);
}

const TROUBLES: ReadonlySet<RowState> = new Set([
  "lost",
  "failed",
  "stale",
  "unhealthy",
  "suspect",
]);

function troubleText({ name, state, state_detail, reason }: WorkerRow): string {
  const ago = state === "lost" || state === "stale" ? ` for ${state_detail ?? "some time"}` : "";
  const why = reason === null || ago !== "" ? "" : `: ${reason}`;
  const detail = ago === "" && state_detail !== null ? ` (${state_detail})` : "";
  return `${name} ${state}${ago}${detail}${why}`;
}
