/** A line that is being typed: the filter of a view, or what is searched in a log. */

import { isField } from "../../cluster/rows/order.ts";
import { FilterError, parseFilter } from "../../protocol/filter.ts";
import type { View } from "../../protocol/watch-rows.ts";
import type { Key } from "../terminal/keys.ts";
import { search } from "./logs.ts";
import { withTab } from "./moves.ts";
import type { Reduced } from "./event.ts";
import { AT_TOP, type Editing, type TopState } from "./state.ts";

export function startEditing(state: TopState): TopState {
  const text = state.tabs[state.view].filter;
  return { ...state, editing: { what: "filter", text, cursor: [...text].length } };
}

export function editingKey(state: TopState, key: Key, pageRows: number): Reduced {
  const { editing } = state;
  if (!editing) return { state, effects: [] };
  const only = (next: TopState): Reduced => ({ state: next, effects: [] });
  if (key.key === "escape") return only({ ...state, editing: null });
  if (key.key === "enter") return only(done(state, editing, pageRows));
  const typed = applyKey(editing, key);
  if (typed === editing) return only(state);
  const next = { ...state, editing: typed };
  // Shown while it is typed, as long as it can be read; the last one that could be goes on to hold.
  return only(
    typed.what === "filter" && filterProblem(state.view, typed.text) === null
      ? filtered(next, typed.text)
      : next,
  );
}

function done(state: TopState, editing: Editing, pageRows: number): TopState {
  if (editing.what === "search") {
    const closed = { ...state, editing: null };
    return closed.page.kind === "logs"
      ? search(closed, closed.page, { older: true, pageRows, text: editing.text })
      : closed;
  }
  // What is wrong stays open, with what is wrong about it.
  return filterProblem(state.view, editing.text) === null
    ? { ...filtered(state, editing.text), editing: null }
    : state;
}

function filtered(state: TopState, filter: string): TopState {
  if (state.tabs[state.view].filter === filter) return state;
  return withTab(state, { ...AT_TOP, filter });
}

/** What is wrong with it and at which column, from 1; null: nothing. */
export function filterProblem(view: View, text: string): string | null {
  try {
    parseFilter(text, (field) => isField(view, field));
    return null;
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    return `${error.message} (column ${error.at + 1})`;
  }
}

const MAX_CHARS = 512;

function applyKey(editing: Editing, key: Key): Editing {
  const chars = [...editing.text];
  const at = Math.min(editing.cursor, chars.length);
  const put = (text: string): Editing => {
    const added = [...text].slice(0, MAX_CHARS - chars.length);
    chars.splice(at, 0, ...added);
    return { ...editing, text: chars.join(""), cursor: at + added.length };
  };
  switch (key.key) {
    case "text":
    case "paste":
      return put(key.text);
    case "backspace":
      if (at === 0) return editing;
      chars.splice(at - 1, 1);
      return { ...editing, text: chars.join(""), cursor: at - 1 };
    case "delete":
      chars.splice(at, 1);
      return { ...editing, text: chars.join(""), cursor: at };
    case "left":
      return { ...editing, cursor: Math.max(0, at - 1) };
    case "right":
      return { ...editing, cursor: Math.min(chars.length, at + 1) };
    case "home":
      return { ...editing, cursor: 0 };
    case "end":
      return { ...editing, cursor: chars.length };
    case "ctrl":
      return key.letter === "u" ? { ...editing, text: "", cursor: 0 } : editing;
    default:
      return editing;
  }
}
