/** Writes the figures of the benchmark of sessions, and holds them against what is expected. */

import type { Verdict } from "../front/judge.ts";
import { below, verdictTable } from "../lane/report.ts";
import { type Cell, table } from "../table.ts";
import type { ListsRow } from "./lists.ts";

/** Null is what was not measured: the run was cut short before. */
export interface SessionsRow {
  workers: number;
  /** Of those workers, when all were in or no longer waited for. */
  connected: number | null;
  /** From the order until then; all dial at once. */
  joined_s: number | null;
  /** What joining costs the head, and the fake workers, which share one core. */
  head_cpu_ms_per_join: number | null;
  workers_cpu_ms_per_join: number | null;
  heartbeats_per_s: number | null;
  head_cpu_share: number | null;
  head_cpu_ms_per_heartbeat: number | null;
  head_memory_empty_bytes: number | null;
  head_memory_bytes: number | null;
  /** Without workers for so long: from the order to stop until the new head is up. */
  head_away_s: number | null;
  /** From the new head's start until the last worker is back. */
  back_s: number | null;
  refusals: number | null;
}

export interface SessionsFigures {
  sessions: readonly SessionsRow[];
  /** The first is of a head with one worker. */
  lists: readonly ListsRow[];
}

const JOIN_LIMIT_S = 60;
const BACK_LIMIT_S = 10;
/** More workers than that have as long as for their first time. */
const BACK_LIMIT_WORKERS = 1000;
const SLOWER_LIMIT_MS = 15;

export function judgeSessions({ sessions, lists }: SessionsFigures): Verdict[] {
  const [empty, ...full] = lists;
  return [
    ...sessions.flatMap(({ workers, joined_s, back_s }) => {
      const limit = workers > BACK_LIMIT_WORKERS ? JOIN_LIMIT_S : BACK_LIMIT_S;
      const back = `${workers} workers are back within ${limit} s after a restart`;
      return [
        below(`${workers} workers are in within ${JOIN_LIMIT_S} s`, joined_s ?? Number.NaN, {
          limit: JOIN_LIMIT_S,
          unit: "s",
        }),
        below(back, back_s ?? Number.NaN, { limit, unit: "s" }),
      ];
    }),
    ...full.map(({ workers, request_p99_us: us }) => {
      const slower = (us - (empty?.request_p99_us ?? Number.NaN)) / 1000;
      const what = `a request's p99 at most ${SLOWER_LIMIT_MS} ms above an empty head's`;
      return below(`${what}, ${workers} workers`, slower, { limit: SLOWER_LIMIT_MS, unit: "ms" });
    }),
  ];
}

export function sessionsReport(figures: SessionsFigures): string {
  return [
    "Sessions (memory of the head in MB; back: from the start of the new head to the last worker)",
    table(
      [
        ...["workers", "in", "joined s", "head ms/join", "workers ms/join", "beats/s"],
        ...[
          "head core %",
          "ms/beat",
          "empty",
          "memory",
          "KB/worker",
          "away s",
          "back s",
          "refusals",
        ],
      ],
      figures.sessions.map((row) => [
        row.workers,
        row.connected,
        row.joined_s,
        row.head_cpu_ms_per_join,
        row.workers_cpu_ms_per_join,
        whole(row.heartbeats_per_s, 1),
        row.head_cpu_share === null ? null : row.head_cpu_share * 100,
        row.head_cpu_ms_per_heartbeat,
        whole(row.head_memory_empty_bytes, 1e6),
        whole(row.head_memory_bytes, 1e6),
        row.head_memory_bytes === null
          ? null
          : whole(row.head_memory_bytes - (row.head_memory_empty_bytes ?? 0), row.workers * 1000),
        row.head_away_s,
        row.back_s,
        row.refusals,
      ]),
    ),
    "Lists, asked for in turn, and requests of 2 KB beside them (ms)",
    table(
      [
        ...["workers", "/metrics", "/api/v1/status", "/v1/models"],
        ...["request p50", "p99", "slowest", "engine alone p99", "errors"],
      ],
      figures.lists.map((row) => [
        row.workers,
        ...[row.metrics_ms, row.status_ms, row.models_ms, row.request_p50_us / 1000],
        ...[row.request_p99_us, row.request_slowest_us, row.engine_p99_us].map((us) => us / 1000),
        row.errors,
      ]),
    ),
    "Expected",
    verdictTable(judgeSessions(figures)),
    "",
  ].join("\n\n");
}

function whole(figure: number | null, unit: number): Cell {
  return figure === null ? null : Math.round(figure / unit);
}
