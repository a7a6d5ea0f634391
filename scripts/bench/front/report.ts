/** Writes the figures of the front's benchmark for people and for programs. */

import {
  type Figures,
  judge,
  pairs,
  quotient,
  requestsShape,
  streamsShape,
  type Verdict,
} from "./judge.ts";
import { THREAD_KINDS, type ThreadTimes } from "../proc.ts";
import { type Cell, table } from "../table.ts";
import type { TargetName } from "../targets.ts";

const OTHERS: readonly TargetName[] = ["bare", "nginx", "haproxy", "sglang", "vllm", "portkey"];

export function frontReport(figures: Figures): string {
  const { requests, streams, soak } = figures;
  const blocks: string[] = [];
  if (requests.length > 0) {
    blocks.push("Requests (medians of rounds; times in us; added: minus direct of the round)");
    blocks.push(requestsTable(figures));
  }
  if (streams.length > 0) {
    blocks.push("Streams (delays in us from the engine's sending; memory in MB)");
    blocks.push(streamsTable(figures));
  }
  if (soak.length > 0) {
    blocks.push("Soak (memory in MB)");
    blocks.push(soakTable(figures));
  }
  const threads = threadRows(figures);
  if (threads.length > 0) {
    blocks.push("Processor time by thread (us for a request or an event)");
    blocks.push(table(["shape", "target", ...THREAD_KINDS], threads));
  }
  const compared = ratios(figures);
  if (compared.length > 0) {
    blocks.push("Ours / others");
    blocks.push(
      table(
        ["shape", "figure", "ours", ...OTHERS],
        compared.map(({ shape, figure, ours, to }) => [
          ...[shape, figure, ours],
          ...OTHERS.map((name) => to[name] ?? null),
        ]),
      ),
    );
  }
  blocks.push("Expected");
  blocks.push(
    table(
      ["expectation", "measured", "met"],
      judge(figures).map(({ expectation, measured, met }) => [expectation, measured, word(met)]),
    ),
  );
  return `${blocks.join("\n\n")}\n`;
}

type Row = Figures["requests"][number] | Figures["streams"][number];

function threadRows({ requests, streams }: Figures): Cell[][] {
  const cells = (shape: string, { target }: Row, threads: ThreadTimes | null) =>
    threads === null ? [] : [[shape, target, ...THREAD_KINDS.map((kind) => threads[kind])]];
  return [
    ...requests.flatMap((row) => cells(requestsShape(row), row, row.threads_us_per_request)),
    ...streams.flatMap((row) => cells(streamsShape(row), row, row.threads_us_per_event)),
  ];
}

const REQUEST_FIGURES = ["requests_per_s", "cpu_us_per_request"] as const;
/** With many at a time, times are those of queues. */
const SINGLE_FIGURES = ["added_p50_us", "added_p99_us", "p99_us"] as const;

export interface RatioRow {
  shape: string;
  figure: (typeof REQUEST_FIGURES)[number] | (typeof SINGLE_FIGURES)[number] | "cpu_us_per_event";
  ours: TargetName;
  to: Partial<Record<TargetName, number>>;
}

/** Ours divided by each other one's, of the same shape. */
export function ratios({ requests, streams }: Figures): RatioRow[] {
  const rows = new Map<string, RatioRow>();
  const note = (of: Omit<RatioRow, "to">, name: TargetName, ratio: number) => {
    const key = `${of.figure} ${of.shape} ${of.ours}`;
    const row = rows.get(key) ?? { ...of, to: {} };
    row.to[name] = ratio;
    rows.set(key, row);
  };
  for (const name of OTHERS) {
    for (const { ours, other } of pairs(requests, name, requestsShape)) {
      const of = { shape: requestsShape(ours), ours: ours.target };
      const figures = [...REQUEST_FIGURES, ...(ours.concurrency === 1 ? SINGLE_FIGURES : [])];
      for (const figure of figures) {
        note({ ...of, figure }, name, quotient(ours[figure], other[figure]));
      }
    }
    for (const { ours, other } of pairs(streams, name, streamsShape)) {
      const ratio = quotient(ours.cpu_us_per_event, other.cpu_us_per_event);
      const of = { shape: streamsShape(ours), ours: ours.target };
      note({ ...of, figure: "cpu_us_per_event" }, name, ratio);
    }
  }
  return [...rows.values()];
}

export function frontJson(figures: Figures, about: object): string {
  const verdicts: Verdict[] = judge(figures);
  const all = { schema: "llmnode.bench.front/1", ...about, ...figures };
  return `${JSON.stringify({ ...all, ratios: ratios(figures), expected: verdicts }, null, 2)}\n`;
}

function requestsTable({ requests }: Figures): string {
  return table(
    [
      "body",
      "conc",
      "target",
      "req/s",
      "p50",
      "p99",
      "+p50",
      "+p99",
      "cpu us/req",
      "busy",
      "errors",
    ],
    requests.map((row) => [
      String(row.body_bytes),
      String(row.concurrency),
      row.target,
      Math.round(row.requests_per_s),
      Math.round(row.p50_us),
      Math.round(row.p99_us),
      Math.round(row.added_p50_us),
      Math.round(row.added_p99_us),
      row.cpu_us_per_request,
      row.busy,
      row.errors,
    ]),
  );
}

function streamsTable({ streams }: Figures): string {
  return table(
    [
      ...["streams", "target", "events/s", "cpu us/event", "busy", "p50", "p99", "late %"],
      ...["frames", "lost", "wrong", "cut", "idle", "loaded", "after"],
    ],
    streams.map((row) => [
      streamsShape(row),
      row.target,
      Math.round(row.events_per_s),
      row.cpu_us_per_event,
      row.busy,
      Math.round(row.delay_p50_us),
      Math.round(row.delay_p99_us),
      row.late * 100,
      row.frames,
      row.lost,
      row.wrong,
      row.broken_streams,
      megabytes(row.memory_idle_bytes),
      megabytes(row.memory_loaded_bytes),
      megabytes(row.memory_after_bytes),
    ]),
  );
}

function soakTable({ soak }: Figures): string {
  return table(
    [
      ...["target", "requests", "streams", "aborts", "failures", "before", "after"],
      ...["MB/min", "fds before", "fds after"],
    ],
    soak.map((row) => [
      row.target,
      row.requests,
      row.streams,
      row.aborts,
      row.failures,
      megabytes(row.memory_before_bytes),
      megabytes(row.memory_after_bytes),
      row.memory_slope_mb_per_min,
      row.descriptors_before,
      row.descriptors_after,
    ]),
  );
}

function megabytes(bytes: number | null): Cell {
  return bytes === null ? null : Math.round(bytes / 1e6);
}

function word(met: boolean | null): string {
  if (met === null) return "not measured";
  return met ? "met" : "NOT MET";
}
