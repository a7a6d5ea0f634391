/** Writes the figures of the lane benchmark, and holds them against what is expected of them. */

import type { Verdict } from "../front/judge.ts";
import type { LaneBulkRow, LaneRequestsRow, LaneStalledRow, LaneStreamsRow } from "./measure.ts";
import type { LaneTargetName } from "./stage.ts";
import { type Cell, table } from "../table.ts";

export interface LaneFigures {
  requests: readonly LaneRequestsRow[];
  streams: readonly LaneStreamsRow[];
  bulk: readonly LaneBulkRow[];
  stalled: readonly LaneStalledRow[];
}

const KIB = 1024;
/** Of a frame's delay: what disturbs the machine shifts it by that much, without any readers. */
const SLOWER_MS = 5;

export function judgeLane({ requests, streams, bulk, stalled }: LaneFigures): Verdict[] {
  const ratios = laneRatios({ requests, streams });
  const worst = (figure: "request" | "event") =>
    Math.max(...ratios.filter((row) => row.figure === figure).map(({ head }) => head));
  const lane = requests.find((row) => row.target === "lane" && row.concurrency === 1);
  const reader = of(stalled, "lane");
  const slowerMs =
    reader === undefined ? Number.NaN : (reader.beside_p99_us - reader.alone_p99_us) / 1000;
  const headKib = (reader?.head_bytes_per_reader ?? Number.NaN) / KIB;
  const workerKib = (reader?.worker_bytes_per_reader ?? Number.NaN) / KIB;
  const bad = streams.reduce((sum, row) => sum + row.bad, 0);
  const failed = bulk.reduce((sum, row) => sum + row.errors, 0);
  const isShort = bulk.some(({ bodies }) => bodies === 0);
  return [
    below("lane at most 1.5 times direct's CPU per request at the head", worst("request"), {
      limit: 1.5,
      unit: "times",
    }),
    below("lane at most 1.3 times direct's CPU per event at the head", worst("event"), {
      limit: 1.3,
      unit: "times",
    }),
    below("added p50 of a lane over direct below 0.5 ms", ms(lane?.over_direct_p50_us), {
      limit: 0.5,
      unit: "ms",
    }),
    below("added p50 of a lane over the engine alone below 0.5 ms", ms(lane?.added_p50_us), {
      limit: 0.5,
      unit: "ms",
    }),
    {
      expectation: "no frame lost in any stream",
      measured: `${bad} lost, wrong or cut`,
      met: streams.length === 0 ? null : bad === 0,
    },
    {
      expectation: "large bodies arrive, up and down",
      measured: `${failed} failed`,
      met: bulk.length === 0 ? null : failed === 0 && !isShort,
    },
    below(`stalled readers delay the others' p99 by less than ${SLOWER_MS} ms`, slowerMs, {
      limit: SLOWER_MS,
      unit: "ms",
    }),
    below("a stalled reader costs the head at most 512 KiB", headKib, { limit: 512, unit: "KiB" }),
    below("a stalled reader costs the worker at most 512 KiB", workerKib, {
      limit: 512,
      unit: "KiB",
    }),
    {
      expectation: "no stream beside stalled readers is harmed, no stalled reader cut",
      measured: `${reader?.bad ?? 0} frames or streams, ${reader?.cut ?? 0} readers`,
      met: reader === undefined ? null : reader.bad + reader.cut === 0,
    },
  ];
}

export function laneReport(figures: LaneFigures): string {
  return [
    "Requests (medians of rounds; us; +: minus the engine alone, ++: minus direct)",
    table(
      [
        ...["target", "conc", "req/s", "p50", "p99", "+p50", "+p99", "++p50", "++p99"],
        ...["head us/req", "worker us/req", "errors"],
      ],
      figures.requests.map((row) => [
        row.target,
        row.concurrency,
        Math.round(row.requests_per_s),
        ...[row.p50_us, row.p99_us, row.added_p50_us, row.added_p99_us].map(Math.round),
        row.over_direct_p50_us === null ? null : Math.round(row.over_direct_p50_us),
        row.over_direct_p99_us === null ? null : Math.round(row.over_direct_p99_us),
        row.head_cpu_us_per_request,
        row.worker_cpu_us_per_request,
        row.errors,
      ]),
    ),
    "Streams (us; delays from the engine's sending)",
    table(
      ["streams", "target", "frames", "head us/event", "worker us/event", "p50", "p99", "bad"],
      figures.streams.map((row) => [
        `${row.streams} at ${row.rate}/s`,
        row.target,
        row.frames,
        row.head_cpu_us_per_event,
        row.worker_cpu_us_per_event,
        Math.round(row.delay_p50_us),
        Math.round(row.delay_p99_us),
        row.bad,
      ]),
    ),
    "Lane / direct (processor time; head alone, and head and worker together)",
    table(
      ["shape", "head", "both"],
      laneRatios(figures).map(({ shape, head, both }) => [shape, head, both]),
    ),
    "Large bodies (processor time in ms, memory in MB at the end)",
    table(
      ["way", "target", "MB", "bodies", "MB/s", "head ms", "worker ms", "head", "worker", "errors"],
      figures.bulk.map((row) => [
        row.way,
        row.target,
        row.bytes / 1e6,
        row.bodies,
        Math.round(row.mb_per_s),
        row.head_cpu_ms_per_body,
        row.worker_cpu_ms_per_body,
        megabytes(row.head_memory_bytes),
        megabytes(row.worker_memory_bytes),
        row.errors,
      ]),
    ),
    "Streams beside stalled readers (us; memory in KiB a stalled reader)",
    table(
      [
        ...["target", "readers", "streams", "p50 alone", "p99 alone", "p50", "p99"],
        ...["bad", "cut", "head KiB", "worker KiB"],
      ],
      figures.stalled.map((row) => [
        row.target,
        row.readers,
        row.streams,
        ...[row.alone_p50_us, row.alone_p99_us, row.beside_p50_us, row.beside_p99_us].map(
          Math.round,
        ),
        row.bad,
        row.cut,
        kibibytes(row.head_bytes_per_reader),
        kibibytes(row.worker_bytes_per_reader),
      ]),
    ),
    "Expected",
    verdictTable(judgeLane(figures)),
    "",
  ].join("\n\n");
}

export interface LaneRatio {
  figure: "request" | "event";
  shape: string;
  head: number;
  /** With the worker, which does nothing of a direct request. */
  both: number;
}

/** What a request or an event over a lane costs, divided by what a direct one does. */
export function laneRatios({
  requests,
  streams,
}: Pick<LaneFigures, "requests" | "streams">): LaneRatio[] {
  const costs = [
    ...requests.map((row) => ({
      ...{ figure: "request" as const, shape: `requests, ${row.concurrency} at a time` },
      ...{ target: row.target, head: row.head_cpu_us_per_request ?? Number.NaN },
      worker: row.worker_cpu_us_per_request ?? Number.NaN,
    })),
    ...streams.map((row) => ({
      ...{ figure: "event" as const, shape: `events, ${row.streams} at ${row.rate}/s` },
      ...{ target: row.target, head: row.head_cpu_us_per_event ?? Number.NaN },
      worker: row.worker_cpu_us_per_event ?? Number.NaN,
    })),
  ];
  return costs
    .filter(({ target }) => target === "lane")
    .flatMap((lane) => {
      const direct = costs.find((row) => row.target === "direct" && row.shape === lane.shape);
      if (direct === undefined) return [];
      const { figure, shape } = lane;
      const both = (lane.head + lane.worker) / (direct.head + direct.worker);
      return [{ figure, shape, head: lane.head / direct.head, both }];
    });
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  return table(
    ["expectation", "measured", "met"],
    verdicts.map(({ expectation, measured, met }) => [expectation, measured, word(met)]),
  );
}

/** A verdict about a figure with a highest value; one that is no number was not measured. */
export function below(
  expectation: string,
  figure: number,
  { limit, unit }: { limit: number; unit: string },
): Verdict {
  if (!Number.isFinite(figure)) return { expectation, measured: "not measured", met: null };
  return { expectation, measured: `${figure.toFixed(2)} ${unit}`, met: figure <= limit };
}

function of<Row extends { target: LaneTargetName }>(
  rows: readonly Row[],
  name: LaneTargetName,
): Row | undefined {
  return rows.find(({ target }) => target === name);
}

function ms(us: number | null | undefined): number {
  return (us ?? Number.NaN) / 1000;
}

function megabytes(bytes: number | null): Cell {
  return bytes === null ? null : Math.round(bytes / 1e6);
}

function kibibytes(bytes: number | null): Cell {
  return bytes === null ? null : Math.round(bytes / KIB);
}

function word(met: boolean | null): string {
  if (met === null) return "not measured";
  return met ? "met" : "NOT MET";
}
