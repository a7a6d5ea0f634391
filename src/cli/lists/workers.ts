/** Workers as `llmnode workers` shows them: a row each, or everything about one. */

import { WATCH_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { GpuRow, WorkerRow } from "../../protocol/watch-rows.ts";
import { countText, memoryText, rateText, tokenRateText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import { clockTime } from "../drain/view.ts";
import { ENGINE_COLUMNS, engineTrouble } from "./engines.ts";
import { cellsOf, type Column, type Listing } from "./listing.ts";
import { cut, table, type TableStyle } from "../base/table.ts";
import {
  durationText,
  factLines,
  numberText,
  quantilesText,
  shareText,
  stateText,
  TOKENS_PER_S,
} from "./words.ts";

export const WORKERS: Listing<WorkerRow> = {
  schema: "llmnode.workers/1",
  member: "workers",
  fields: [
    ...WATCH_ROW_FIELDS.workers,
    "gpus",
    "gpu_problem",
    "drain",
    "host",
    "engines",
    "sparkline",
  ],
  nameOf: ({ name }) => name,
  columns: [
    { head: "WORKER", field: "name" },
    { head: "STATE", field: "state", text: stateText },
    { head: "MODEL", field: "models", text: modelsText },
    { head: "GPUS", field: "gpus", text: gpusText },
    { head: "GPU", field: "gpu_util_pct", text: ({ gpu_util_pct }) => shareText(gpu_util_pct) },
    {
      head: "MEM",
      field: "gpu_mem_used_bytes",
      text: (row) => memoryText(row.gpu_mem_used_bytes, row.gpu_mem_total_bytes),
    },
    { head: "TEMP", field: "temp_c", wide: true, text: ({ temp_c }) => withUnit(temp_c, "C") },
    { head: "POWER", field: "power_w", wide: true, text: ({ power_w }) => withUnit(power_w, "W") },
    { head: "INFL", field: "in_flight", text: ({ in_flight }) => countText(in_flight) },
    { head: "QUE", field: "queue", text: ({ queue }) => countText(queue) },
    { head: "KV", field: "kv_pct", wide: true, text: ({ kv_pct }) => shareText(kv_pct) },
    {
      head: "REQ/S",
      field: "requests_per_s",
      wide: true,
      text: ({ requests_per_s }) => rateText(requests_per_s),
    },
    TOKENS_PER_S,
    { head: "TTFT", field: "ttft_ms", text: ({ ttft_ms }) => quantilesText(ttft_ms) },
    { head: "ROUTE", field: "route", wide: true },
    { head: "UP", field: "uptime_ms", text: ({ uptime_ms }) => durationText(uptime_ms) },
    { head: "SEEN", field: "seen_ms", wide: true, text: ({ seen_ms }) => durationText(seen_ms) },
    { head: "ADDRESS", field: "address", wide: true },
    { head: "VERSION", field: "version", wide: true },
    { head: "LABELS", field: "labels", wide: true, text: ({ labels }) => labelsText(labels) },
    { head: "ID", field: "id", wide: true },
    { head: "REASON", field: "reason", text: ({ reason }) => reason ?? "" },
  ],
};

const GPU_COLUMNS: readonly Column<GpuRow>[] = [
  { head: "GPU", field: "index" },
  { head: "NAME", field: "name" },
  { head: "UTIL", field: "util_pct", text: ({ util_pct }) => shareText(util_pct) },
  {
    head: "MEM",
    field: "mem_used_bytes",
    text: (row) => memoryText(row.mem_used_bytes, row.mem_total_bytes),
  },
  { head: "TEMP", field: "temp_c", text: ({ temp_c }) => withUnit(temp_c, "C") },
  { head: "POWER", field: "power_w", text: ({ power_w }) => withUnit(power_w, "W") },
];

export function workerLines(row: WorkerRow, style: TableStyle): string[] {
  const { columns } = style;
  const engines = row.engines ?? [];
  const add = (lines: string[]) => (lines.length === 0 ? [] : ["", ...lines]);
  return [
    cut(cleanLine(`${row.name}   ${stateText(row)}`), columns),
    ...factLines(
      [
        ["reason", row.reason],
        ["drain", drainText(row.drain)],
        ["id", row.id],
        ["address", row.address || null],
        ["version", row.version],
        ["route", row.route ?? "not known"],
        ["labels", labelsText(row.labels) || null],
        ["up", row.uptime_ms === null ? null : durationText(row.uptime_ms)],
        ["last heard", `${durationText(row.seen_ms)} ago`],
        ["in flight", `${row.in_flight}, ${numberText(row.queue)} waiting in its engines`],
        [
          "rate",
          `${tokenRateText(row.output_tokens_per_s)} tokens/s, ${rateText(row.requests_per_s)} requests/s`,
        ],
        ["first token", row.ttft_ms === null ? null : `${quantilesText(row.ttft_ms)} (p50/p95)`],
        ["GPUs", row.gpu_problem],
      ],
      columns,
    ),
    ...add(row.gpus.length === 0 ? [] : table(...cellsOf(GPU_COLUMNS, row.gpus), style)),
    ...add(engines.length === 0 ? [] : table(...cellsOf(ENGINE_COLUMNS, engines), style)),
    ...engineTrouble(engines, columns),
  ];
}

/** "Qwen/Qwen3-8B x8, BAAI/bge-m3". */
function modelsText({ models }: WorkerRow): string {
  const shown = models
    .slice(0, 3)
    .map(({ name, engines }) => (engines > 1 ? `${name} x${engines}` : name));
  return [...shown, ...(models.length > 3 ? [`+${models.length - 3}`] : [])].join(", ") || "-";
}

/** "8x NVIDIA H200", "2 GPUs" of several kinds. */
function gpusText({ gpus }: WorkerRow): string {
  const names = new Set(gpus.map(({ name }) => name));
  const [name] = names;
  if (name === undefined) return "-";
  return names.size > 1 ? `${gpus.length} GPUs` : `${gpus.length}x ${name}`;
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
}

function withUnit(value: number | null, unit: string): string {
  return value === null ? "-" : `${Math.round(value)}${unit}`;
}

function drainText(drain: WorkerRow["drain"]): string | null {
  if (drain === null) return null;
  return [
    `by ${drain.who} since ${clockTime(drain.since)}`,
    ...(drain.deadline === null ? [] : [`deadline ${clockTime(drain.deadline)}`]),
    ...(drain.message === null ? [] : [drain.message]),
  ].join(", ");
}
