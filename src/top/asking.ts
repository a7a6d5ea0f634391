/** Asks before something is changed, saying what it is and what it will do. */

import type { RequestRow, WorkerRow } from "../protocol/watch-rows.ts";
import { flash } from "./reduce.ts";
import { chosenRow, rowId } from "./rows.ts";
import { type Action, mayAct, shownFrame, type TopState } from "./state.ts";

export function ask(state: TopState, key: "D" | "U" | "R" | "X" | "K"): TopState {
  const may = mayAct(state);
  if (!may.may) return flash(state, may.why, "changing");
  const { targets, problem } = targetsOf(state, key);
  if (problem !== null) return flash(state, problem, "changing");
  const actions = targets.map(({ action }) => action);
  const names = targets.map(({ name }) => name);
  const shown =
    names.length > 3
      ? `${names.slice(0, 3).join(" ")} and ${names.length - 3} more`
      : names.join(" ");
  const { title, lines } = WORDS[key];
  return {
    ...state,
    dialog: {
      kind: "confirm",
      title: `${title} ${shown}?`,
      lines: [...lines, ...targets.flatMap(({ effect }) => effect).slice(0, 4)],
      actions,
      needed: names.length > 1 && isMuch(state, names.length) ? String(names.length) : null,
      typed: "",
    },
  };
}

/** More than a quarter of the workers at once: that must be typed. */
function isMuch(state: TopState, workers: number): boolean {
  return state.view === "workers" && workers > (state.frame?.totals.workers.total ?? 0) / 4;
}

const WORDS = {
  D: { title: "Drain", lines: ["Stops giving it new requests; those that run may finish."] },
  U: { title: "Give requests again to", lines: ["Undoes the drain."] },
  R: {
    title: "Restart the engine of",
    lines: ["Drains it, starts its engine anew, gives it requests again."],
  },
  X: { title: "Forget", lines: ["Takes the row away; a join that comes back needs a join token."] },
  K: { title: "Cancel", lines: ["Its client gets an error."] },
} as const;

interface Target {
  name: string;
  action: Action;
  effect: string[];
}

function targetsOf(
  state: TopState,
  key: "D" | "U" | "R" | "X" | "K",
): { targets: Target[]; problem: string | null } {
  const frame = shownFrame(state);
  const rows =
    frame && frame.view === state.view ? (frame.rows as readonly (WorkerRow | RequestRow)[]) : [];
  const chosen = chosenRow(state, frame);
  const ids = state.marks.size > 0 ? state.marks : new Set(chosen ? [rowId(chosen)] : []);
  const wanted = key === "K" ? "requests" : "workers";
  const page = state.page;
  if (page.kind === "worker" && key !== "K") {
    const detail = frame?.detail && "worker" in frame.detail ? [frame.detail.worker] : [];
    return { targets: detail.map((row) => workerTarget(row, key)), problem: null };
  }
  if (state.view !== wanted)
    return { targets: [], problem: `that is for ${wanted}: press ${key === "K" ? 3 : 1}` };
  const found = rows.filter((row) => ids.has(rowId(row)));
  if (found.length === 0) return { targets: [], problem: "nothing is chosen" };
  const targets = found.map((row) =>
    "phase" in row
      ? {
          name: row.id,
          action: { verb: "cancel" as const, request: row.id, force: false },
          effect: [],
        }
      : workerTarget(row, key === "K" ? "D" : key),
  );
  const wrong = found.find(
    (row) => key === "X" && "state" in row && row.state !== "lost" && row.state !== "left",
  );
  return { targets, problem: wrong ? "only what is lost or has left can be forgotten" : null };
}

const VERBS = { D: "drain", U: "undrain", R: "restart", X: "forget" } as const;

function workerTarget(row: WorkerRow, key: "D" | "U" | "R" | "X"): Target {
  const running = key === "U" || key === "X" ? [] : [`${row.name}: ${row.in_flight} in flight.`];
  return {
    name: row.name,
    action: { verb: VERBS[key], worker: row.name, force: false },
    effect: running,
  };
}
