/** The table of workers. */

import type { WorkerRow } from "../../protocol/watch-rows.ts";
import { bar } from "../text/bars.ts";
import { cutEnd, cutMiddle, fitText } from "../text/columns.ts";
import {
  countText,
  percentText,
  rateText,
  timeText,
  tokenRateText,
  UNKNOWN,
} from "../text/figures.ts";
import { clean, type Line, span, type Tone } from "../text/styled.ts";
import type { DrawOptions } from "./drawn.ts";
import { stateSpans } from "./state-words.ts";
import { type Column, numberColumn, textColumn } from "./table.ts";

/** Shares of memory and cache from which on a bar warns. */
const NEAR = 0.7;
const FULL = 0.9;
const WARM_C = 85;
const HOT_C = 92;

export function workerColumns(options: DrawOptions & { width: number }): Column<WorkerRow>[] {
  const { charset, width: room } = options;
  // A narrow screen keeps the numbers and leaves the bars.
  const barMin = room >= 80 ? 11 : 5;
  return [
    textColumn("WORKER", { min: 8, ideal: 10, grow: 1, priority: 0 }, ({ name }, width) =>
      cutEnd(clean(name, 64), width),
    ),
    {
      head: "STATE",
      min: 11,
      ideal: 12,
      grow: 0,
      priority: 0,
      align: "left",
      cell: stateSpans,
    },
    textColumn("MODEL", { min: 15, ideal: 16, grow: 4, priority: 4 }, modelsText),
    textColumn("GPUS", { min: 7, ideal: 9, priority: 9 }, ({ gpus }) => gpusText(gpus)),
    barColumn(
      "GPU",
      { min: barMin, ideal: 12, priority: 2, tone: () => "plain", charset },
      (row) => (row.gpu_util_pct === null ? null : row.gpu_util_pct / 100),
    ),
    barColumn("MEM", { min: barMin, ideal: 12, priority: 5, tone: fullness, charset }, (row) =>
      share(row.gpu_mem_used_bytes, row.gpu_mem_total_bytes),
    ),
    numberColumn("INFL", { min: 4, priority: 1 }, ({ in_flight }) => countText(in_flight)),
    numberColumn("QUE", { min: 3, priority: 3 }, ({ queue }) => countText(queue)),
    numberColumn(
      "KV%",
      { min: 3, priority: 10 },
      ({ kv_pct }) => (kv_pct === null ? UNKNOWN : String(Math.round(kv_pct))),
      ({ kv_pct }) => fullness(kv_pct === null ? null : kv_pct / 100),
    ),
    numberColumn("TOK/S", { min: 5, priority: 2 }, (row) => tokenRateText(row.output_tokens_per_s)),
    numberColumn("REQ/S", { min: 5, priority: 6 }, (row) => rateText(row.requests_per_s)),
    numberColumn("TTFT50", { min: 6, priority: 7 }, ({ ttft_ms }) =>
      timeText(ttft_ms?.p50 ?? null),
    ),
    numberColumn("95", { min: 5, priority: 7 }, ({ ttft_ms }) => timeText(ttft_ms?.p95 ?? null)),
    numberColumn("TEMP", { min: 4, priority: 11 }, temperature, ({ temp_c }) => heat(temp_c)),
    numberColumn("W", { min: 4, priority: 12 }, ({ power_w }) => countText(power_w)),
    numberColumn("UP", { min: 5, priority: 13 }, ({ uptime_ms }) => timeText(uptime_ms)),
    numberColumn("SEEN", { min: 5, priority: 8, isWide: true }, ({ seen_ms }) => timeText(seen_ms)),
  ];
}

/** One name, with how many engines have it; of several the first and how many more. */
function modelsText({ models }: WorkerRow, width: number): string {
  const [first] = models;
  if (!first) return UNKNOWN;
  const more =
    models.length > 1 ? ` +${models.length - 1}` : first.engines > 1 ? ` x${first.engines}` : "";
  return cutMiddle(shortName(clean(first.name), width - more.length), width - more.length) + more;
}

/** Without its owner, where the whole name does not fit: the part behind the slash differs more. */
function shortName(name: string, width: number): string {
  const slash = name.lastIndexOf("/");
  return Bun.stringWidth(name) <= width || slash < 0 ? name : name.slice(slash + 1);
}

function gpusText(gpus: WorkerRow["gpus"]): string {
  const [first] = gpus;
  if (!first) return UNKNOWN;
  const name = clean(first.name, 40).replace(/^(?:NVIDIA|AMD)\s+(?:GeForce\s+)?/i, "");
  return `${gpus.length}x${cutEnd(name.split(/\s+/)[0] ?? "", 10)}`;
}

function barColumn(
  head: string,
  how: {
    min: number;
    ideal: number;
    priority: number;
    tone: (share: number | null) => Tone;
    charset: DrawOptions["charset"];
  },
  of: (row: WorkerRow) => number | null,
): Column<WorkerRow> {
  const { min, ideal, priority, tone, charset } = how;
  const cell = (row: WorkerRow, width: number): Line => {
    const part = of(row);
    const number = fitText(percentText(part === null ? null : part * 100), 5, "right");
    const cells = Math.max(0, width - 5);
    return [span(bar(part, cells, charset), tone(part)), span(number)];
  };
  return { head, min, ideal, grow: 0, priority, align: "left", cell };
}

function share(part: number | null, whole: number | null): number | null {
  return part === null || whole === null || whole <= 0 ? null : part / whole;
}

/** How near to its limit memory or a cache is. */
export function fullness(part: number | null): Tone {
  if (part === null || part < NEAR) return "plain";
  return part < FULL ? "changing" : "broken";
}

function heat(celsius: number | null): Tone {
  if (celsius === null || celsius < WARM_C) return "plain";
  return celsius < HOT_C ? "changing" : "broken";
}

function temperature({ temp_c }: WorkerRow): string {
  return temp_c === null ? UNKNOWN : `${Math.round(temp_c)}C`;
}
