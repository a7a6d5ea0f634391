/** What each key does, in each place. */

import { type View, VIEWS } from "../protocol/watch-rows.ts";
import { ask } from "./asking.ts";
import { dialogKey } from "./dialogs.ts";
import { editingKey, startEditing } from "./editing.ts";
import type { Key } from "./keys.ts";
import { pageRowsOf } from "./layout.ts";
import { logsKey, startLogs } from "./logs.ts";
import { type Effect, flash, type Reduced, withScroll } from "./reduce.ts";
import { chosenRow, moveTo, rowId } from "./rows.ts";
import { SORTABLE } from "./sorts.ts";
import { shownFrame, type Tab, type TopState } from "./state.ts";

const same = (state: TopState, ...effects: Effect[]): Reduced => ({ state, effects });

export function takeKey(state: TopState, key: Key): Reduced {
  if (key.key === "ctrl") {
    if (key.letter === "c") return same(state, { do: "quit" });
    if (key.letter === "r") return same(flash(state, "asking the head again"), { do: "reconnect" });
    if (state.editing === null) return same(state);
  }
  if (state.editing) return editingKey(state, key, pageRowsOf(state));
  if (state.dialog) return dialogKey(state, key);
  const logs = logsKey(state, key, pageRowsOf(state));
  if (logs) return same(logs);
  if (key.key === "text") return letter(state, key.text);
  if (key.key === "paste" || key.key === "ctrl") return same(state);
  return named(state, key.key);
}

function named(state: TopState, key: string): Reduced {
  const page = pageRowsOf(state);
  switch (key) {
    case "up":
      return same(step(state, -1));
    case "down":
      return same(step(state, 1));
    case "pageup":
      return same(step(state, -page));
    case "pagedown":
      return same(step(state, page));
    case "home":
      return same(step(state, -Infinity));
    case "end":
      return same(step(state, Infinity));
    case "enter":
      return same(enter(state));
    case "escape":
      return same(back(state));
    case "tab":
      return same(nextView(state, 1));
    case "backtab":
      return same(nextView(state, -1));
    default:
      return same(state);
  }
}

function letter(state: TopState, key: string): Reduced {
  switch (key) {
    case "q":
      return same(state, { do: "quit" });
    case "1":
    case "2":
    case "3":
    case "4":
      return same(toView(state, VIEWS[Number(key) - 1] ?? "workers"));
    case "j":
      return same(step(state, 1));
    case "k":
      return same(step(state, -1));
    case "g":
      return same(step(state, -Infinity));
    case "G":
      return same(step(state, Infinity));
    case "?":
      return same({ ...state, dialog: { kind: "help" } });
    case "/":
      return same(startEditing(state));
    case "s":
      return same({ ...state, dialog: { kind: "sort", cursor: sortIndex(state) } });
    case "<":
      return same(sortBy(state, -1));
    case ">":
      return same(sortBy(state, 1));
    case "r":
      return same(withTab(state, { sort: reversed(state.tabs[state.view].sort) }));
    case "b":
      return same(nextGroup(state));
    case "z":
      return same(freeze(state));
    case "a":
      return same(
        flash(
          { ...state, gone: !state.gone },
          state.gone ? "without those that left" : "with those that left",
        ),
      );
    case "w":
      return same({ ...state, wide: !state.wide });
    case "+":
      return same(faster(state, 0.5));
    case "-":
      return same(faster(state, 2));
    case " ":
      return same(mark(state));
    case "*":
      return same({ ...state, marks: new Set() });
    case "y":
      return copy(state);
    case "l":
    case "e":
      return same(openLogs(state));
    case "D":
    case "U":
    case "R":
    case "X":
    case "K":
      return same(ask(state, key));
    default:
      return same(state);
  }
}

function withTab(state: TopState, change: Partial<Tab>): TopState {
  const tab = { ...state.tabs[state.view], ...change };
  return { ...state, tabs: { ...state.tabs, [state.view]: tab } };
}

function step(state: TopState, by: number): TopState {
  if (state.page.kind === "worker" || state.page.kind === "model") {
    const scroll = Math.max(
      0,
      Math.min(500, state.page.scroll + (Number.isFinite(by) ? by : by < 0 ? -500 : 500)),
    );
    return { ...state, page: { ...state.page, scroll } };
  }
  const tab = state.tabs[state.view];
  const frame = shownFrame(state);
  const last = Math.max(0, (frame?.matching ?? 0) - 1);
  const index = by === Infinity ? last : by === -Infinity ? 0 : tab.cursor + by;
  const moved = moveTo(tab, frame?.view === state.view ? frame : null, {
    index,
    pageRows: pageRowsOf(state),
  });
  return withTab(state, moved);
}

function toView(state: TopState, view: View): TopState {
  return withScroll({ ...state, view, page: { kind: "table" }, marks: new Set() });
}

function nextView(state: TopState, by: 1 | -1): TopState {
  const at = (VIEWS.indexOf(state.view) + by + VIEWS.length) % VIEWS.length;
  return toView(state, VIEWS[at] ?? "workers");
}

function enter(state: TopState): TopState {
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
    case "events": {
      const worker = "kind" in row ? row.worker : null;
      return worker === null
        ? state
        : { ...state, view: "workers", page: { kind: "worker", name: worker, scroll: 0 } };
    }
  }
}

/** Back to where one came from; then the marks go, then the filter, then nothing. */
function back(state: TopState): TopState {
  if (state.page.kind === "logs") return { ...state, page: state.page.back };
  if (state.page.kind !== "table") return { ...state, page: { kind: "table" } };
  if (state.marks.size > 0) return { ...state, marks: new Set() };
  if (state.tabs[state.view].filter !== "")
    return withTab(state, { filter: "", cursor: 0, scroll: 0 });
  return state;
}

function sortIndex(state: TopState): number {
  const sort = state.tabs[state.view].sort.replace(/^-/, "");
  return Math.max(
    0,
    SORTABLE[state.view].findIndex(({ field }) => field === sort),
  );
}

export function sortTo(state: TopState, index: number): TopState {
  const choices = SORTABLE[state.view];
  const choice = choices[(index + choices.length) % choices.length];
  if (!choice) return state;
  return withTab(state, {
    sort: (choice.descending ? "-" : "") + choice.field,
    cursor: 0,
    chosen: null,
    scroll: 0,
  });
}

function sortBy(state: TopState, by: 1 | -1): TopState {
  return sortTo(state, sortIndex(state) + by);
}

function reversed(sort: string): string {
  return sort.startsWith("-") ? sort.slice(1) : `-${sort}`;
}

const GROUPS: Readonly<Record<View, readonly (string | null)[]>> = {
  workers: [null, "model", "gpu", "version"],
  models: [null],
  requests: [null, "model", "worker"],
  events: [null],
};

/** Grouped rows are sorted by the group, so that it shows in the order alone. */
function nextGroup(state: TopState): TopState {
  const groups = GROUPS[state.view];
  const group = groups[(groups.indexOf(state.tabs[state.view].group) + 1) % groups.length] ?? null;
  const sort = group ?? SORTABLE[state.view][0]?.field ?? "problems";
  return flash(
    withTab(state, { group, sort, scroll: 0, cursor: 0, chosen: null }),
    group ? `grouped by ${group}` : "not grouped",
  );
}

function freeze(state: TopState): TopState {
  if (state.frozen) return { ...state, frozen: null };
  return state.frame === null ? state : { ...state, frozen: { frame: state.frame, at: state.now } };
}

function faster(state: TopState, factor: number): TopState {
  const intervalMs = Math.max(500, Math.min(10_000, state.intervalMs * factor));
  return flash(
    { ...state, intervalMs, options: { ...state.options, intervalMs } },
    `every ${intervalMs / 1000} s`,
  );
}

function mark(state: TopState): TopState {
  const row = state.page.kind === "table" ? chosenRow(state, shownFrame(state)) : null;
  if (!row || state.view === "events" || state.view === "models") return state;
  const marks = new Set(state.marks);
  if (!marks.delete(rowId(row))) marks.add(rowId(row));
  return step({ ...state, marks }, 1);
}

function copy(state: TopState): Reduced {
  const row = chosenRow(state, shownFrame(state));
  const { hello, frame } = state;
  const isEmpty = frame !== null && frame.totals.workers.total === 0;
  const text = isEmpty && hello ? joinCommand(hello.head.api_url) : row ? rowId(row) : "";
  if (text === "") return same(state);
  return same(flash(state, `copied: ${text}`), { do: "copy", text });
}

/** What starts a worker for this head. */
export function joinCommand(apiUrl: string): string {
  const host = URL.canParse(apiUrl) ? new URL(apiUrl).hostname : apiUrl;
  return `llmnode join ${host} -- vllm serve Qwen/Qwen3-8B`;
}

function openLogs(state: TopState): TopState {
  const engine = engineOf(state);
  return engine === null
    ? flash(state, "no engine is chosen", "changing")
    : { ...state, page: startLogs(engine, state.page) };
}

function engineOf(state: TopState): string | null {
  const { page } = state;
  const detail = shownFrame(state)?.detail ?? null;
  if (page.kind === "worker") return `${page.name}/1`;
  if (page.kind === "model" && detail && "model" in detail)
    return detail.model.engines?.[0]?.name ?? null;
  const row = chosenRow(state, shownFrame(state));
  if (!row) return null;
  if (state.view === "workers") return `${rowId(row)}/1`;
  return "engine" in row && row.engine !== null ? row.engine : null;
}
