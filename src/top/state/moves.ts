/** Keys that move: the cursor, from view to view, into a row and back. */

import { type View, VIEWS } from "../../protocol/watch-rows.ts";
import { pageRowsOf } from "./layout.ts";
import { chosenRow, moveTo, type Row, rowId, scrollFor } from "./rows.ts";
import { shownFrame, type Tab, type TopState } from "./state.ts";

export function withTab(state: TopState, change: Partial<Tab>): TopState {
  const tab = { ...state.tabs[state.view], ...change };
  return { ...state, tabs: { ...state.tabs, [state.view]: tab } };
}

/** Keeps the cursor on the screen. */
export function withScroll(state: TopState): TopState {
  const tab = state.tabs[state.view];
  const last = Math.max(0, (state.frame?.matching ?? 0) - pageRowsOf(state));
  const scroll = Math.min(scrollFor(tab, tab.cursor, pageRowsOf(state)), last);
  return scroll === tab.scroll ? state : withTab(state, { scroll });
}

/** Lines that a page with details may be scrolled by. */
const MAX_SCROLL = 500;

export function step(state: TopState, by: number): TopState {
  const { page } = state;
  if (page.kind === "worker" || page.kind === "model") {
    const far = Number.isFinite(by) ? by : Math.sign(by) * MAX_SCROLL;
    const scroll = Math.max(0, Math.min(MAX_SCROLL, page.scroll + far));
    return { ...state, page: { ...page, scroll } };
  }
  if (page.kind !== "table") return state;
  const tab = state.tabs[state.view];
  const frame = shownFrame(state);
  const here = frame?.view === state.view ? frame : null;
  const last = Math.max(0, (here?.matching ?? 0) - 1);
  const wanted = by === Infinity ? last : by === -Infinity ? 0 : tab.cursor + by;
  // A frozen screen has no other rows than it had.
  const index =
    state.frozen && here
      ? Math.max(here.offset, Math.min(here.offset + here.rows.length - 1, wanted))
      : wanted;
  return withTab(state, moveTo(tab, here, { index, pageRows: pageRowsOf(state) }));
}

export function toView(state: TopState, view: View): TopState {
  return withScroll({ ...state, view, page: { kind: "table" }, marks: new Map() });
}

export function nextView(state: TopState, by: 1 | -1): TopState {
  const at = (VIEWS.indexOf(state.view) + by + VIEWS.length) % VIEWS.length;
  return toView(state, VIEWS[at] ?? "workers");
}

export function enter(state: TopState): TopState {
  if (state.page.kind !== "table") return state;
  const row = chosenRow(state, shownFrame(state));
  if (!row) return state;
  switch (state.view) {
    case "workers":
      return { ...state, page: { kind: "worker", name: rowId(row), scroll: 0 } };
    case "models":
      return { ...state, page: { kind: "model", name: rowId(row), scroll: 0 } };
    case "requests":
      return { ...state, page: { kind: "request", id: rowId(row) } };
    case "events":
      return toWorkerOf(state, row);
  }
}

/** The page with the engines of the worker that a row is about; of a model, all that have it. */
export function engines(state: TopState): TopState {
  const row = chosenRow(state, shownFrame(state));
  if (!row || state.page.kind === "logs") return state;
  if (state.view === "workers" || state.view === "models") return enter(state);
  return toWorkerOf(state, row);
}

function toWorkerOf(state: TopState, row: Row): TopState {
  const worker = "worker" in row ? row.worker : null;
  if (worker === null) return state;
  return { ...toView(state, "workers"), page: { kind: "worker", name: worker, scroll: 0 } };
}

/** Back to where one came from; then the marks go, then the filter, then nothing. */
export function back(state: TopState): TopState {
  if (state.page.kind === "logs") return { ...state, page: state.page.back };
  if (state.page.kind !== "table") return { ...state, page: { kind: "table" } };
  if (state.marks.size > 0) return { ...state, marks: new Map() };
  if (state.tabs[state.view].filter !== "")
    return withTab(state, { filter: "", cursor: 0, scroll: 0 });
  return state;
}

export function mark(state: TopState): TopState {
  const row = state.page.kind === "table" ? chosenRow(state, shownFrame(state)) : null;
  if (!row || !("gpus" in row || "phase" in row)) return state;
  const marks = new Map(state.marks);
  if (!marks.delete(rowId(row))) marks.set(rowId(row), row);
  return step({ ...state, marks }, 1);
}
