/** The rows of a view: what names one, and where it is in the whole list. */

import type { WatchFrame } from "../../protocol/watch-json.ts";
import type { EventRow, ModelRow, RequestRow, View, WorkerRow } from "../../protocol/watch-rows.ts";
import type { Tab, TopState } from "./state.ts";

export type Row = WorkerRow | ModelRow | RequestRow | EventRow;

/** What can be marked: what something can be done to. */
export type Marked = WorkerRow | RequestRow;

/** Stable while the row is there: a worker's name, a model's name, a request's or event's id. */
export function rowId(row: Row): string {
  if ("name" in row) return row.name;
  return String(row.id);
}

export function rowsOf(frame: WatchFrame | null, view: View): readonly Row[] {
  return frame !== null && frame.view === view ? frame.rows : [];
}

/** The row at a place in the whole list, when it was sent. */
function rowAt(frame: WatchFrame | null, view: View, index: number): Row | null {
  return rowsOf(frame, view)[index - (frame?.offset ?? 0)] ?? null;
}

export function chosenRow(state: TopState, frame: WatchFrame | null): Row | null {
  const { view, tabs } = state;
  return rowAt(frame, view, tabs[view].cursor);
}

/**
 * After a new frame: the cursor stays on what was chosen, wherever that is now. What has gone leaves
 * the cursor where it is.
 */
export function followChosen(tab: Tab, frame: WatchFrame): Tab {
  const rows: readonly Row[] = frame.rows;
  const found = tab.chosen === null ? -1 : rows.findIndex((row) => rowId(row) === tab.chosen);
  const cursor =
    found >= 0
      ? frame.offset + found
      : Math.max(0, Math.min(tab.cursor, Math.max(0, frame.matching - 1)));
  const row = rows[cursor - frame.offset];
  // Until a person has moved, the cursor stays at the top: there is what needs one.
  const chosen = tab.chosen === null && cursor === 0 ? null : row ? rowId(row) : tab.chosen;
  return { ...tab, cursor, chosen };
}

/** What is marked, as it is now where the window has it. */
export function refreshMarks(
  marks: ReadonlyMap<string, Marked>,
  frame: WatchFrame,
): ReadonlyMap<string, Marked> {
  if (marks.size === 0 || (frame.view !== "workers" && frame.view !== "requests")) return marks;
  const fresh = new Map(marks);
  for (const row of frame.rows as readonly Marked[]) {
    if (fresh.has(rowId(row))) fresh.set(rowId(row), row);
  }
  return fresh;
}

/** The cursor moved to a place, and the window with it. */
export function moveTo(
  tab: Tab,
  frame: WatchFrame | null,
  to: { index: number; pageRows: number },
): Tab {
  const last = Math.max(0, (frame?.matching ?? 0) - 1);
  const cursor = Math.max(0, Math.min(last, to.index));
  const row = frame ? (frame.rows as readonly Row[])[cursor - frame.offset] : undefined;
  return {
    ...tab,
    cursor,
    chosen: row ? rowId(row) : null,
    scroll: scrollFor(tab, cursor, to.pageRows),
  };
}

/** The first row drawn, so that the cursor is on the screen. */
export function scrollFor(tab: Tab, cursor: number, pageRows: number): number {
  const rows = Math.max(1, pageRows);
  if (cursor < tab.scroll) return cursor;
  return cursor >= tab.scroll + rows ? cursor - rows + 1 : tab.scroll;
}
