/** Plain text tables: capitals, three spaces between columns, no borders. */

import { cleanLine } from "../util/text.ts";

/** Cells may come from outside: each is made one safe line of at most this many characters. */
const MAX_CELL_CHARS = 200;

/**
 * Lines without trailing spaces. Columns that are empty in every row are left out; with `columns`
 * (a terminal's width) lines are cut to it.
 */
export function textTable(
  header: readonly string[],
  rows: ReadonlyArray<readonly string[]>,
  columns: number | null,
): string[] {
  const clean = rows.map((row) => header.map((_, i) => cleanLine(row[i] ?? "", MAX_CELL_CHARS)));
  const used = header.map((_, i) => clean.some((row) => row[i] !== ""));
  const table = [header, ...clean].map((row) => row.filter((_, i) => used[i]));
  const widths = (table[0] ?? []).map((_, i) => {
    return Math.max(...table.map((row) => Bun.stringWidth(row[i] ?? "")));
  });
  return table.map((row) => {
    const line = row
      .map((cell, i) => cell + " ".repeat((widths[i] ?? 0) - Bun.stringWidth(cell)))
      .join("   ")
      .trimEnd();
    return cut(line, columns);
  });
}

/** Cuts a line to a terminal's width, by columns rather than characters. */
export function cut(line: string, columns: number | null): string {
  if (columns === null || Bun.stringWidth(line) <= columns) return line;
  let kept = "";
  let width = 0;
  for (const char of line) {
    width += Bun.stringWidth(char);
    if (width > columns - 1) break;
    kept += char;
  }
  return `${kept}…`;
}
