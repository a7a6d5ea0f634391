/** What each key does, in each place. */

import { VIEWS } from "../../protocol/watch-rows.ts";
import { ask } from "./asking.ts";
import { dialogKey } from "./dialogs.ts";
import { editingKey, startEditing } from "./editing.ts";
import type { Key } from "../terminal/keys.ts";
import { pageRowsOf } from "./layout.ts";
import { logsKey } from "./logs.ts";
import { back, engines, enter, mark, nextView, step, toView } from "./moves.ts";
import { nextGroup, reverse, sortBy, sortIndex } from "./ordering.ts";
import { copy, nextLog, openLogs } from "./pointing.ts";
import type { Effect, Reduced } from "./event.ts";
import { flash, type TopState } from "./state.ts";

const same = (state: TopState, ...effects: Effect[]): Reduced => ({ state, effects });

export function handleKey(before: TopState, key: Key): Reduced {
  const { state, effects } = keyResult(before, key);
  return { state: thaw(before, state), effects };
}

function keyResult(state: TopState, key: Key): Reduced {
  if (key.key === "ctrl") {
    if (key.letter === "c") return same(state, { do: "quit" });
    if (key.letter === "r") return same(flash(state, "asking the head again"), { do: "reconnect" });
    if (state.editing === null) return same(state);
  }
  if (state.editing) return editingKey(state, key, pageRowsOf(state));
  if (state.dialog) return dialogKey(state, key);
  const logs = logsKey(state, key, pageRowsOf(state));
  if (logs) return same(logs);
  if (key.key === "text") return letterKey(state, key.text);
  if (key.key === "paste" || key.key === "ctrl") return same(state);
  return same(NAMED[key.key]?.(state) ?? state);
}

/** A frozen screen holds one table; moving to another one shows the present again. */
function thaw(before: TopState, state: TopState): TopState {
  if (before.frozen === null || state.frozen === null) return state;
  const tab = state.tabs[state.view];
  const was = before.tabs[before.view];
  const isSame =
    state.view === before.view &&
    state.page.kind === before.page.kind &&
    state.gone === before.gone &&
    tab.sort === was.sort &&
    tab.filter === was.filter;
  return isSame ? state : { ...state, frozen: null };
}

type Act = (state: TopState) => TopState;

const NAMED: Partial<Record<string, Act>> = {
  up: (state) => step(state, -1),
  down: (state) => step(state, 1),
  pageup: (state) => step(state, -pageRowsOf(state)),
  pagedown: (state) => step(state, pageRowsOf(state)),
  home: (state) => step(state, -Infinity),
  end: (state) => step(state, Infinity),
  enter,
  escape: back,
  tab: (state) => beside(state, 1),
  backtab: (state) => beside(state, -1),
};

function beside(state: TopState, by: 1 | -1): TopState {
  return state.page.kind === "logs" ? nextLog(state, by) : nextView(state, by);
}

const LETTERS: Partial<Record<string, Act>> = {
  j: (state) => step(state, 1),
  k: (state) => step(state, -1),
  g: (state) => step(state, -Infinity),
  G: (state) => step(state, Infinity),
  "?": (state) => ({ ...state, dialog: { kind: "help" } }),
  "/": startEditing,
  s: (state) => ({ ...state, dialog: { kind: "sort", cursor: sortIndex(state) } }),
  "<": (state) => sortBy(state, -1),
  ">": (state) => sortBy(state, 1),
  r: reverse,
  b: nextGroup,
  z: freeze,
  a: (state) =>
    flash(
      { ...state, gone: !state.gone },
      state.gone ? "without those that left" : "with those that left",
    ),
  w: (state) => ({ ...state, wide: !state.wide }),
  "+": (state) => slower(state, 0.5),
  "-": (state) => slower(state, 2),
  " ": mark,
  "*": (state) => ({ ...state, marks: new Map() }),
  l: openLogs,
  e: engines,
  D: (state) => ask(state, "D"),
  U: (state) => ask(state, "U"),
  R: (state) => ask(state, "R"),
  X: (state) => ask(state, "X"),
  K: (state) => ask(state, "K"),
};

function letterKey(state: TopState, key: string): Reduced {
  if (key === "q") return same(state, { do: "quit" });
  if (key === "y") return copy(state);
  const view = VIEWS[Number(key) - 1];
  if (view) return same(toView(state, view));
  const act = LETTERS[key] ?? (/^[A-Z]$/.test(key) ? shouted : null);
  return same(act ? act(state) : state);
}

function shouted(state: TopState): TopState {
  return flash(state, "no such key: capitals change something, is Caps Lock on?", "changing");
}

function freeze(state: TopState): TopState {
  if (state.frozen) return { ...state, frozen: null };
  const { frame, now: at, history } = state;
  return frame === null ? state : { ...state, frozen: { frame, at, history } };
}

const MIN_INTERVAL_MS = 500;
const MAX_INTERVAL_MS = 10_000;

function slower(state: TopState, factor: number): TopState {
  const wanted = state.intervalMs * factor;
  const intervalMs = Math.max(MIN_INTERVAL_MS, Math.min(MAX_INTERVAL_MS, wanted));
  return flash(
    { ...state, intervalMs, options: { ...state.options, intervalMs } },
    `every ${intervalMs / 1000} s`,
  );
}
