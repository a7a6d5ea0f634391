/** Asks before something is changed, saying what it is and what it will do. */

import type { WorkerRow } from "../../protocol/watch-rows.ts";
import { formatDuration } from "../../util/units.ts";
import { chosenRow, type Marked } from "./rows.ts";
import { type Action, flash, mayAct, shownFrame, type TopState } from "./state.ts";

/** How long requests of a drained worker may go on. */
export const PATIENCE_MS = 600_000;

export function ask(state: TopState, key: keyof typeof WORDS): TopState {
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
      lines: [...lines, ...effects(targets)],
      actions,
      needed: names.length > 1 && isMuch(state, targets) ? String(names.length) : null,
      typed: "",
      // Undoing a drain harms no client.
      focus: key === "U" ? "go" : "cancel",
    },
  };
}

const MAX_EFFECTS = 4;

function effects(targets: readonly Target[]): string[] {
  const all = targets.flatMap(({ effect }) => effect);
  const more = all.length - MAX_EFFECTS;
  return more > 0 ? [...all.slice(0, MAX_EFFECTS), `and ${more} more`] : all;
}

/** More than a quarter of the GPUs, or of the workers where there are none: that must be typed. */
function isMuch(state: TopState, targets: readonly Target[]): boolean {
  const totals = state.frame?.totals;
  if (!totals || state.view !== "workers") return false;
  const gpus = targets.reduce((sum, target) => sum + target.gpus, 0);
  return totals.gpus.total > 0
    ? gpus > totals.gpus.total / 4
    : targets.length > totals.workers.total / 4;
}

const WORDS = {
  D: {
    title: "Drain",
    lines: [
      "Stops sending it new requests; running ones may finish.",
      `After ${formatDuration(PATIENCE_MS).replace(/m00s$/, "m")} what still runs is cancelled.`,
    ],
  },
  U: { title: "Send requests again to", lines: ["Undoes the drain."] },
  R: {
    title: "Restart the engine of",
    lines: ["Drains it, starts its engine again, then gives it requests again."],
  },
  X: { title: "Forget", lines: ["Removes its row; to come back it needs a join token."] },
  K: { title: "Cancel", lines: ["Its client gets an error."] },
} as const;

interface Target {
  name: string;
  action: Action;
  effect: string[];
  gpus: number;
}

function targetsOf(
  state: TopState,
  key: keyof typeof WORDS,
): { targets: Target[]; problem: string | null } {
  const frame = shownFrame(state);
  const wanted = key === "K" ? "requests" : "workers";
  const page = state.page;
  if (page.kind === "worker" && key !== "K") {
    const row = frame?.detail && "worker" in frame.detail ? frame.detail.worker : null;
    if (row === null || row.name !== page.name) return { targets: [], problem: "not found yet" };
    return { targets: [workerTarget(row, key)], problem: wrongState([row], key) };
  }
  if (state.view !== wanted)
    return { targets: [], problem: `that is for ${wanted}: press ${key === "K" ? 3 : 1}` };
  const chosen = chosenRow(state, frame);
  const found: readonly Marked[] =
    state.marks.size > 0 ? [...state.marks.values()] : chosen && isMarkable(chosen) ? [chosen] : [];
  if (found.length === 0) return { targets: [], problem: "nothing selected" };
  const targets = found.map((row) =>
    "phase" in row
      ? {
          name: row.id,
          action: { verb: "cancel" as const, request: row.id, force: false },
          effect: [`${row.id}: ${row.phase} for ${formatDuration(row.age_ms)}.`],
          gpus: 0,
        }
      : workerTarget(row, key === "K" ? "D" : key),
  );
  return { targets, problem: wrongState(found, key) };
}

function isMarkable(row: object): row is Marked {
  return "phase" in row || "gpus" in row;
}

function wrongState(rows: readonly Marked[], key: string): string | null {
  const isGone = (row: Marked) => !("state" in row) || row.state === "lost" || row.state === "left";
  if (key === "X" && !rows.every(isGone))
    return "only workers that are lost or have left can be forgotten";
  const isKept = (row: Marked) => "drain" in row && row.drain === null && row.state !== "drained";
  return key === "U" && rows.every(isKept) ? "none of these is drained" : null;
}

const VERBS = { D: "drain", U: "undrain", R: "restart", X: "forget" } as const;

function workerTarget(row: WorkerRow, key: keyof typeof VERBS): Target {
  const running = key === "U" || key === "X" ? [] : [`${row.name}: ${row.in_flight} in flight.`];
  return {
    name: row.name,
    action: { verb: VERBS[key], worker: row.name, id: row.id, force: false },
    effect: running,
    gpus: row.gpus.length,
  };
}
