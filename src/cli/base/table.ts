/** Plain text tables: capitals, three spaces between columns, no borders. */

import { cleanLine } from "../../util/text.ts";

/** Cells may come from outside: each is made one safe line of at most this many characters. */
const MAX_CELL_CHARS = 200;
/** The same where nothing is to be cut. */
const MAX_WHOLE_CHARS = 10_000;

export interface TableStyle {
  /** The terminal's width, to which lines are cut; null: they are not. */
  columns: number | null;
  /** No line of column names. */
  noHeader?: boolean;
  /** Cells as long as they are. */
  whole?: boolean;
  ascii?: boolean;
}

/** Lines without trailing spaces. Columns that are empty in every row are left out. */
export function table(
  header: readonly string[],
  rows: ReadonlyArray<readonly string[]>,
  { columns, noHeader = false, whole = false, ascii = false }: TableStyle,
): string[] {
  const cell = (text: string) => {
    const clean = cleanLine(text, whole ? MAX_WHOLE_CHARS : MAX_CELL_CHARS);
    return ascii ? asciiText(clean) : clean;
  };
  const clean = rows.map((row) => header.map((_, i) => cell(row[i] ?? "")));
  const used = header.map((_, i) => clean.some((row) => row[i] !== ""));
  const all = [...(noHeader ? [] : [header]), ...clean].map((row) => row.filter((_, i) => used[i]));
  const widths = (all[0] ?? []).map((_, i) => {
    return all.reduce((widest, row) => Math.max(widest, Bun.stringWidth(row[i] ?? "")), 0);
  });
  return all.map((row) => {
    const line = row
      .map((text, i) => text + " ".repeat((widths[i] ?? 0) - Bun.stringWidth(text)))
      .join("   ")
      .trimEnd();
    return cut(line, columns, ascii ? "..." : "…");
  });
}

/** Cuts a line to a terminal's width, by columns rather than characters. */
export function cut(line: string, columns: number | null, mark = "…"): string {
  if (columns === null || Bun.stringWidth(line) <= columns) return line;
  const room = Math.max(0, columns - mark.length);
  let kept = "";
  let width = 0;
  for (const char of line) {
    width += Bun.stringWidth(char);
    if (width > room) break;
    kept += char;
  }
  return `${kept}${mark}`;
}

/** What a terminal without other characters can show. */
export function asciiText(text: string): string {
  return text.replaceAll("…", "...").replace(/[^\u0020-\u007e]/gu, "?");
}

/** Columns of a page of help. */
export const HELP_WIDTH = 96;

/** Two columns, the second wrapped under itself. */
export function columns(rows: ReadonlyArray<[string, string]>): string[] {
  const left = Math.max(...rows.map(([name]) => name.length)) + 4;
  return rows.flatMap(([name, text]) => {
    return wrap(text, HELP_WIDTH - left).map((line, i) => {
      return `${(i === 0 ? `  ${name}` : "").padEnd(left)}${line}`;
    });
  });
}

export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
