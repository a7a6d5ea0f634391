/** Aligned tables of figures, for terminals and for pasting. */

export type Cell = string | number | null;

/** Texts to the left, figures to the right; null, which is unknown, is a dash. */
export function table(header: readonly string[], rows: ReadonlyArray<readonly Cell[]>): string {
  const isFigure = header.map((_, i) => rows.some((row) => typeof row[i] === "number"));
  const texts = [header, ...rows.map((row) => header.map((_, i) => cellText(row[i] ?? null)))];
  const widths = header.map((_, i) => Math.max(...texts.map((row) => row[i]?.length ?? 0)));
  const lines = texts.map((row) =>
    row
      .map((text, i) => (isFigure[i] ? text.padStart(widths[i] ?? 0) : text.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  return lines.join("\n");
}

/** Three digits that mean something, all digits of what is larger. */
export function cellText(cell: Cell): string {
  if (typeof cell === "string") return cell;
  if (cell === null || Number.isNaN(cell)) return "-";
  if (Number.isInteger(cell)) return String(cell);
  const size = Math.abs(cell);
  return cell.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
