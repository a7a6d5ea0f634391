/** Tables: a head, rows with the chosen one marked, columns that fit the width. */

import { type ColumnWidths, fitColumns, fitText } from "../text/columns.ts";
import { type Line, span, type Tone } from "../text/styled.ts";
import { type DrawnLine, drawn } from "./drawn.ts";

export interface Column<Row> extends ColumnWidths {
  head: string;
  align: "left" | "right";
  /** Shown only when the user asks for wide tables, whatever the room. */
  isWide?: boolean;
  /** Exactly `width` cells. */
  cell(row: Row, width: number): Line;
}

/** A column of text, in the tone that it has for a row. */
export function textColumn<Row>(
  head: string,
  widths: Omit<ColumnWidths, "grow"> & { grow?: number },
  of: (row: Row, width: number) => string,
  tone: (row: Row) => Tone = () => "plain",
): Column<Row> {
  const cell = (row: Row, width: number) => [span(fitText(of(row, width), width), tone(row))];
  return { grow: 0, ...widths, head, align: "left", cell };
}

export function numberColumn<Row>(
  head: string,
  widths: { min: number; priority: number; isWide?: boolean },
  of: (row: Row) => string,
  tone: (row: Row) => Tone = () => "plain",
): Column<Row> {
  const cell = (row: Row, width: number) => [span(fitText(of(row), width, "right"), tone(row))];
  return { ideal: widths.min, grow: 0, ...widths, head, align: "right", cell };
}

export interface TableOptions<Row> {
  width: number;
  id: (row: Row) => string;
  /** The chosen row; null: none is. */
  chosen: string | null;
  marks: { has(id: string): boolean };
  /** Whether columns for wide tables are shown. */
  wide: boolean;
}

/** The head and the rows; each begins with a cell for the cursor or a mark. */
export function tableLines<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions<Row>,
): { head: DrawnLine; rows: DrawnLine[] } {
  const { width, id, chosen, marks } = options;
  const wanted = columns.filter(({ isWide }) => isWide !== true || options.wide || width >= 160);
  const widths = fitColumns(wanted, width - 1);
  const shown = wanted.flatMap((column, i) => {
    const cells = widths[i] ?? null;
    return cells === null ? [] : [{ column, cells }];
  });
  const head = shown.map(({ column, cells }) => fitText(column.head, cells, column.align));
  return {
    head: drawn([span(` ${head.join(" ")}`, "dim")], width),
    rows: rows.map((row) => {
      const name = id(row);
      const isChosen = name === chosen;
      const sign = isChosen ? ">" : marks.has(name) ? "+" : " ";
      const cells = shown.flatMap(({ column, cells: n }, i) => [
        ...(i === 0 ? [] : [span(" ")]),
        ...column.cell(row, n),
      ]);
      return {
        ...drawn([span(sign, marks.has(name) ? "strong" : "plain"), ...cells], width),
        chosen: isChosen,
      };
    }),
  };
}
