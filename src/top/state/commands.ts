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
  return namedKey(state, key.key);
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

function namedKey(state: TopState, key: string): Reduced {
  const page = pageRowsOf(state);
  const isLog = state.page.kind === "logs";
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
      return same(isLog ? nextLog(state, 1) : nextView(state, 1));
    case "backtab":
      return same(isLog ? nextLog(state, -1) : nextView(state, -1));
    default:
      return same(state);
  }
}

function letterKey(state: TopState, key: string): Reduced {
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
      return same(reverse(state));
    case "b":
      return same(nextGroup(state));
    case "z":
      return same(freeze(state));
    case "a": {
      const words = state.gone ? "without those that left" : "with those that left";
      return same(flash({ ...state, gone: !state.gone }, words));
    }
    case "w":
      return same({ ...state, wide: !state.wide });
    case "+":
      return same(slower(state, 0.5));
    case "-":
      return same(slower(state, 2));
    case " ":
      return same(mark(state));
    case "*":
      return same({ ...state, marks: new Map() });
    case "y":
      return copy(state);
    case "l":
      return same(openLogs(state));
    case "e":
      return same(engines(state));
    case "D":
    case "U":
    case "R":
    case "X":
    case "K":
      return same(ask(state, key));
    default:
      return same(/^[A-Z]$/.test(key) ? shouted(state) : state);
  }
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
