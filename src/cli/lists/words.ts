/** Words and figures that several tables share. */

import type { EngineRow, Quantiles } from "../../protocol/watch-rows.ts";
import { percentText, timeText, tokenRateText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import type { Column } from "./listing.ts";
import { cut } from "../base/table.ts";

/** "ready", "starting load 62%", "lost 42s". */
export function stateText(row: { state: string; state_detail: string | null }): string {
  return row.state_detail === null ? row.state : `${row.state} ${row.state_detail}`;
}

/** The median, then what 95 of 100 stay below. */
export function quantilesText(quantiles: Quantiles | null): string {
  return quantiles === null ? "-" : `${timeText(quantiles.p50)}/${timeText(quantiles.p95)}`;
}

export function numberText(value: number | null): string {
  return value === null ? "-" : String(value);
}

export function shareText(percent: number | null): string {
  return percent === null ? "-" : percentText(percent);
}

export function durationText(ms: number | null): string {
  return ms === null ? "-" : formatDuration(ms);
}

/** Lines of a name and what there is to say, the names in one column; without what is null. */
export function factLines(
  facts: ReadonlyArray<readonly [string, string | null]>,
  columns: number | null,
): string[] {
  const told = facts.flatMap(([name, text]) => (text === null ? [] : [[name, text] as const]));
  const width = told.reduce((widest, [name]) => Math.max(widest, name.length), 0);
  return told.map(([name, text]) =>
    cut(`  ${name.padEnd(width)}   ${cleanLine(text, 10_000)}`, columns),
  );
}

/** The engines of a worker or a model, in their details. */
export const ENGINE_COLUMNS: readonly Column<EngineRow>[] = [
  { head: "ENGINE", field: "name", text: ({ name }) => name },
  { head: "KIND", field: "kind", text: ({ kind }) => kind },
  { head: "STATE", field: "state", text: stateText },
  { head: "MODEL", field: "models", text: ({ models }) => models.join(", ") || "-" },
  {
    head: "INFL",
    field: "in_flight",
    text: ({ in_flight, max_in_flight }) =>
      max_in_flight === null ? String(in_flight) : `${in_flight}/${max_in_flight}`,
  },
  { head: "QUE", field: "queue", text: ({ queue }) => numberText(queue) },
  { head: "KV", field: "kv_pct", text: ({ kv_pct }) => shareText(kv_pct) },
  {
    head: "TOK/S",
    field: "output_tokens_per_s",
    text: ({ output_tokens_per_s }) => tokenRateText(output_tokens_per_s),
  },
  { head: "TTFT", field: "ttft_ms", text: ({ ttft_ms }) => quantilesText(ttft_ms) },
  { head: "SINCE", field: "since_ms", text: ({ since_ms }) => durationText(since_ms) },
  { head: "RESTARTS", field: "restarts", text: ({ restarts }) => String(restarts) },
  { head: "VIA", field: "via", text: ({ via }) => via ?? "-" },
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

/** Header and cells for `table`. */
export function cellsOf<R>(
  columns: readonly Column<R>[],
  rows: readonly R[],
): [header: string[], cells: string[][]] {
  return [columns.map(({ head }) => head), rows.map((row) => columns.map(({ text }) => text(row)))];
}
