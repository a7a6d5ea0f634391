/** Measures requests with answers in one piece: rates, added times, processor time. */

import type { FrontLimits } from "./front/options.ts";
import type { RequestsResult } from "./jobs.ts";
import type { Load } from "./load/load.ts";
import { eachThread, type ThreadTimes } from "./proc.ts";
import { histogram, median } from "./stats.ts";
import { aimAt, type Target, type TargetName } from "./targets.ts";
import { warmUp } from "./warm-up.ts";

/** Medians of rounds; times are added ones: the target's minus direct's of the same round. */
export interface RequestsRow {
  body_bytes: number;
  concurrency: number;
  target: TargetName;
  requests_per_s: number;
  p50_us: number;
  p99_us: number;
  added_p50_us: number;
  added_p99_us: number;
  /** Of the relay's process; null for direct. */
  cpu_us_per_request: number | null;
  threads_us_per_request: ThreadTimes | null;
  /** The share of a core that the relay used: below 1, the load was the limit. */
  busy: number | null;
  errors: number;
}

export interface RequestsOptions {
  load: Load;
  targets: readonly Target[];
  limits: FrontLimits;
  say: (line: string) => void;
}

export async function measureRequests(options: RequestsOptions): Promise<RequestsRow[]> {
  const { load, targets, limits, say } = options;
  const { bodyBytes: sizes, concurrency: levels, sliceMs } = limits.requests;
  const slice = (target: Target, bodyBytes: number, concurrency: number) =>
    load.do({
      ...{ ...aimAt(target), kind: "requests", bodyBytes, concurrency },
      durationMs: sliceMs,
    });
  const warmed = targets.map((target) => ({ name: target.name, aim: aimAt(target) }));
  await warmUp({ load, targets: warmed, say }, limits.warmUp);
  for (const target of targets) {
    for (const bodyBytes of sizes) await slice(target, bodyBytes, Math.max(...levels));
  }
  const rows: RequestsRow[] = [];
  for (const concurrency of levels) {
    for (const bodyBytes of sizes) {
      say(`requests of ${bodyBytes} bytes, concurrency ${concurrency}`);
      const results = new Map<Target, RequestsResult[]>(targets.map((target) => [target, []]));
      for (let round = 0; round < limits.rounds; round += 1) {
        for (const target of rotated(targets, round)) {
          results.get(target)?.push(await slice(target, bodyBytes, concurrency));
        }
      }
      const direct = [...results].find(([target]) => target.name === "direct")?.[1] ?? [];
      for (const [target, rounds] of results) {
        rows.push({ body_bytes: bodyBytes, concurrency, ...summary(target, rounds, direct) });
      }
    }
  }
  return rows;
}

/** Another one begins in each round, so that what comes first or last hits all alike. */
export function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % Math.max(1, items.length);
  return [...items.slice(at), ...items.slice(0, at)];
}

type Summary = Omit<RequestsRow, "body_bytes" | "concurrency">;

function summary(
  target: Target,
  rounds: readonly RequestsResult[],
  direct: readonly RequestsResult[],
): Summary {
  const over = (figure: (result: RequestsResult, round: number) => number) =>
    median(rounds.map(figure));
  const at = (q: number) => (result: RequestsResult) => histogram(result.latencies).percentile(q);
  const added = (q: number) => (result: RequestsResult, round: number) => {
    const base = direct[round];
    return base === undefined ? Number.NaN : at(q)(result) - at(q)(base);
  };
  const isRelay = target.pid !== null;
  return {
    target: target.name,
    requests_per_s: over(({ requests, elapsedMs }) => (requests / elapsedMs) * 1000),
    p50_us: over(at(0.5)),
    p99_us: over(at(0.99)),
    added_p50_us: over(added(0.5)),
    added_p99_us: over(added(0.99)),
    cpu_us_per_request: isRelay ? perRequest(rounds, ({ cpuMs }) => cpuMs ?? 0) : null,
    threads_us_per_request: isRelay
      ? eachThread((kind) => perRequest(rounds, ({ threadsMs }) => threadsMs?.[kind] ?? 0))
      : null,
    busy: isRelay ? over(({ cpuMs, elapsedMs }) => (cpuMs ?? 0) / elapsedMs) : null,
    errors: rounds.reduce((sum, { errors }) => sum + errors, 0),
  };
}

/** Microseconds over all rounds together: the clock of `/proc` is too coarse for one. */
function perRequest(
  rounds: readonly RequestsResult[],
  figureMs: (result: RequestsResult) => number,
): number {
  const ms = rounds.reduce((sum, result) => sum + figureMs(result), 0);
  return (ms * 1000) / rounds.reduce((sum, { requests }) => sum + requests, 0);
}
