/** In which order rows are shown, and by what they are grouped. */

import type { View } from "../../protocol/watch-rows.ts";
import { withTab } from "./moves.ts";
import { SORTABLE } from "./sorts.ts";
import { AT_TOP, flash, type TopState } from "./state.ts";

/** The place of the present order among those that can be chosen. */
export function sortIndex(state: TopState): number {
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
  const sort = (choice.descending ? "-" : "") + choice.field;
  return withTab(state, { ...AT_TOP, sort, group: null });
}

export function sortBy(state: TopState, by: 1 | -1): TopState {
  return sortTo(state, sortIndex(state) + by);
}

export function reverse(state: TopState): TopState {
  const { sort } = state.tabs[state.view];
  if (sort === "problems") return flash(state, "problems come first: < > for another order");
  return withTab(state, { sort: sort.startsWith("-") ? sort.slice(1) : `-${sort}` });
}

/** Fields by which rows that are alike come together. */
const GROUPS: Readonly<Record<View, readonly (string | null)[]>> = {
  workers: [null, "model", "label", "version"],
  models: [null],
  requests: [null, "model", "worker"],
  events: [null],
};

/** Grouped rows are sorted by the group, so that it shows in the order alone. */
export function nextGroup(state: TopState): TopState {
  const groups = GROUPS[state.view];
  if (groups.length < 2) return flash(state, `${state.view} are not grouped`);
  const group = groups[(groups.indexOf(state.tabs[state.view].group) + 1) % groups.length] ?? null;
  const first = SORTABLE[state.view][0];
  const sort = group ?? `${first?.descending ? "-" : ""}${first?.field ?? "problems"}`;
  return flash(
    withTab(state, { ...AT_TOP, group, sort }),
    group ? `grouped by ${group}` : "not grouped",
  );
}
