/** Words and figures that several tables share. */

import type { Quantiles } from "../../protocol/watch-rows.ts";
import { percentText, timeText, tokenRateText } from "../../top/text/figures.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import type { Column } from "./listing.ts";
import { cut } from "../base/table.ts";

export const TOKENS_PER_S: Column<{ output_tokens_per_s: number | null }> = {
  head: "TOK/S",
  field: "output_tokens_per_s",
  text: (row) => tokenRateText(row.output_tokens_per_s),
};

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
  const known = facts.flatMap(([name, text]) => (text === null ? [] : [[name, text] as const]));
  const width = known.reduce((widest, [name]) => Math.max(widest, name.length), 0);
  return known.map(([name, text]) =>
    cut(`  ${name.padEnd(width)}   ${cleanLine(text, 10_000)}`, columns),
  );
}
