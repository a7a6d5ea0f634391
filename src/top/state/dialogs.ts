/** Keys while a dialog is open: nothing is done that was not asked for, twice. */

import type { Key } from "../terminal/keys.ts";
import { sortTo } from "./ordering.ts";
import type { Reduced } from "./event.ts";
import { SORTABLE } from "./sorts.ts";
import { type Confirm, flash, mayAct, type TopState } from "./state.ts";

export function dialogKey(state: TopState, key: Key): Reduced {
  const { dialog } = state;
  const closed: TopState = { ...state, dialog: null };
  if (dialog === null || key.key === "escape") return { state: closed, effects: [] };
  switch (dialog.kind) {
    case "help":
      return { state: key.key === "text" && "?q".includes(key.text) ? closed : state, effects: [] };
    case "sort":
      return { state: sortKey(state, key, dialog.cursor), effects: [] };
    case "confirm":
      return confirmKey(state, key, dialog);
  }
}

function sortKey(state: TopState, key: Key, cursor: number): TopState {
  const choices = SORTABLE[state.view].length;
  const to = (at: number): TopState => ({
    ...state,
    dialog: { kind: "sort", cursor: (at + choices) % choices },
  });
  if (key.key === "up" || (key.key === "text" && key.text === "k")) return to(cursor - 1);
  if (key.key === "down" || (key.key === "text" && key.text === "j")) return to(cursor + 1);
  if (key.key === "enter") return { ...sortTo(state, cursor), dialog: null };
  return key.key === "text" && "sq".includes(key.text) ? { ...state, dialog: null } : state;
}

/** The cautious answer is the nearest one: Enter does what has the focus, and that is to cancel. */
function confirmKey(state: TopState, key: Key, dialog: Confirm): Reduced {
  const closed: TopState = { ...state, dialog: null };
  if (dialog.needed === null) {
    const isGo = key.key === "enter" && dialog.focus === "go";
    if (isGo || (key.key === "text" && key.text === "y")) return go(closed, dialog);
    if (["tab", "backtab", "left", "right"].includes(key.key)) {
      const focus = dialog.focus === "go" ? "cancel" : "go";
      return { state: { ...state, dialog: { ...dialog, focus } }, effects: [] };
    }
    const isNo = key.key === "enter" || (key.key === "text" && "nq".includes(key.text));
    return { state: isNo ? closed : state, effects: [] };
  }
  if (key.key === "enter") {
    return dialog.typed === dialog.needed ? go(closed, dialog) : { state, effects: [] };
  }
  const chars = [...dialog.typed];
  if (key.key === "backspace") chars.pop();
  else if (key.key === "text" || key.key === "paste") chars.push(...key.text);
  else return { state, effects: [] };
  const typed = chars.slice(0, 600).join("");
  return { state: { ...state, dialog: { ...dialog, typed } }, effects: [] };
}

/** The data may have got old while the dialog was open. */
function go(state: TopState, { actions }: Confirm): Reduced {
  const may = mayAct(state);
  if (!may.may) return { state: flash(state, may.why, "changing"), effects: [] };
  return { state: { ...state, marks: new Map() }, effects: [{ do: "act", actions }] };
}
