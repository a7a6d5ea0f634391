/** What a worker, an engine or a model is in, in one word and a few more. */

import { type RowState, STATE_MARKS } from "../../protocol/watch-rows.ts";
import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import type { Engine, Worker } from "../state/state.ts";

export interface StateWords {
  state: RowState;
  state_detail: string | null;
}

/** Worst first: the order of `problems`, and which of several engines a worker shows. */
const WORST_FIRST = Object.keys(STATE_MARKS);

export function badness(state: RowState): number {
  return WORST_FIRST.indexOf(state);
}

export function engineState(engine: Engine, now: number): StateWords {
  switch (engine.report.state) {
    case "ready":
      return engine.suspect
        ? { state: "suspect", state_detail: age(engine.suspect.since, now) }
        : { state: "ready", state_detail: null };
    case "starting":
      return { state: "starting", state_detail: phaseText(engine, now) };
    case "suspect":
    case "unhealthy":
      return { state: engine.report.state, state_detail: age(engine.report.stateSince, now) };
    case "backoff":
    case "failed":
      return { state: "failed", state_detail: failureText(engine) };
    case "stopping":
      return { state: "draining", state_detail: "stopping" };
    case "stopped":
      return { state: "left", state_detail: "stopped" };
  }
}

/** The worker's own state while requests do not get there; else that of its worst engine. */
export function workerState(worker: Worker, now: number): StateWords {
  switch (worker.state) {
    case "lost":
    case "stale":
      return { state: worker.state, state_detail: age(worker.lastHeardAt, now) };
    case "left":
      return { state: "left", state_detail: age(worker.stateSince, now) };
    case "drained":
      return { state: "drained", state_detail: null };
    case "draining":
      return { state: "draining", state_detail: `${worker.inFlight} left` };
    case "ready":
      break;
  }
  const states = [...worker.engines.values()].map((engine) => engineState(engine, now));
  states.sort((a, b) => badness(a.state) - badness(b.state));
  return states[0] ?? { state: "starting", state_detail: "no engine yet" };
}

/** `load 62%` as the engine's log has it, or how long it has been at it. */
function phaseText(engine: Engine, now: number): string {
  const phase = cleanLine(engine.report.phase ?? "", 40);
  if (/\d/.test(phase)) return phase;
  const since = engine.report.phaseSince ?? engine.report.stateSince;
  return `${phase} ${age(since, now)}`.trimStart();
}

function failureText(engine: Engine): string {
  const word = cleanLine(engine.report.failure ?? "", 24).replaceAll("_", " ");
  const times = engine.report.restarts > 1 ? `x${engine.report.restarts}` : "";
  return [word || "exit", times].filter((part) => part !== "").join(" ");
}

function age(since: number, now: number): string {
  return formatDuration(Math.max(0, now - since)).replace(/\.\ds$/, "s");
}

/** 0 to 100, where the phase says it. */
export function progressOf({ report: { phase } }: Engine): number | null {
  const found = /\b(\d{1,3})%/.exec(phase ?? "");
  const percent = found ? Number(found[1]) : Number.NaN;
  return percent >= 0 && percent <= 100 ? percent : null;
}
