/** Engines as `llmnode ps` shows them, and as details of workers and models do. */

import { ENGINE_ROW_FIELDS } from "../../protocol/row-fields.ts";
import type { EngineRow } from "../../protocol/watch-rows.ts";
import { countText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import { cut } from "../base/table.ts";
import type { Column, Listing } from "./listing.ts";
import { durationText, quantilesText, shareText, stateText, TOKENS_PER_S } from "./words.ts";

export const ENGINES: Listing<EngineRow> = {
  schema: "llmnode.engines/1",
  member: "engines",
  fields: ENGINE_ROW_FIELDS,
  nameOf: ({ name }) => name,
  columns: [
    { head: "ENGINE", field: "name" },
    { head: "MODEL", field: "models", text: modelsText },
    { head: "WORKER", field: "worker" },
    { head: "KIND", field: "kind", wide: true, text: ({ kind }) => kind || "-" },
    { head: "STATE", field: "state", text: stateText },
    { head: "GPUS", field: "gpus", text: ({ gpus }) => gpusText(gpus) },
    { head: "INFL", field: "in_flight", text: ({ in_flight }) => countText(in_flight) },
    { head: "SINCE", field: "state_ms", text: ({ state_ms }) => durationText(state_ms) },
    { head: "RESTARTS", field: "restarts", wide: true, text: (row) => countText(row.restarts) },
    { head: "PID", field: "pid", wide: true },
    {
      head: "CONTAINER",
      field: "container",
      wide: true,
      text: ({ container }) => container ?? "",
    },
    { head: "REASON", field: "reason", text: ({ reason }) => reason ?? "" },
  ],
};

/** The engines of a worker or a model, in their details. */
export const ENGINE_COLUMNS: readonly Column<EngineRow>[] = [
  { head: "ENGINE", field: "name" },
  { head: "KIND", field: "kind" },
  { head: "STATE", field: "state", text: stateText },
  { head: "MODEL", field: "models", text: ({ models }) => models.join(", ") || "-" },
  {
    head: "INFL",
    field: "in_flight",
    text: ({ in_flight, max_in_flight }) =>
      max_in_flight === null ? String(in_flight) : `${in_flight}/${max_in_flight}`,
  },
  { head: "QUE", field: "queue" },
  { head: "KV", field: "kv_pct", text: ({ kv_pct }) => shareText(kv_pct) },
  TOKENS_PER_S,
  { head: "TTFT", field: "ttft_ms", text: ({ ttft_ms }) => quantilesText(ttft_ms) },
  { head: "SINCE", field: "state_ms", text: ({ state_ms }) => durationText(state_ms) },
  { head: "RESTARTS", field: "restarts" },
  { head: "ROUTE", field: "route" },
];

/** What an engine in trouble says of it, below its table. */
export function engineTrouble(engines: readonly EngineRow[], columns: number | null): string[] {
  return engines.flatMap(({ name, reason, hint, evidence }) => {
    if (reason === null) return [];
    const lines = [`${name}: ${reason}`, ...(hint === null ? [] : [`  next: ${hint}`])];
    const shown = [...lines, ...evidence.map((line) => `  | ${line}`)];
    // An advice is not cut: half of it is none.
    return [
      "",
      ...shown.map((line, i) => (i < lines.length ? clean(line) : cut(clean(line), columns))),
    ];
  });
}

function clean(line: string): string {
  return cleanLine(line, 2000);
}

function modelsText({ models, service }: EngineRow): string {
  return service === null ? models.join(", ") || "-" : `service ${service}`;
}

/** "0-3", "0,2": as `--gpus` has them. */
function gpusText(gpus: readonly number[] | null): string {
  if (gpus === null) return "-";
  const sorted = [...gpus].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; i += 1) {
    const first = sorted[i];
    while (sorted[i + 1] === (sorted[i] ?? 0) + 1) i += 1;
    parts.push(first === sorted[i] ? String(first) : `${first}-${sorted[i]}`);
  }
  return parts.join(",");
}
