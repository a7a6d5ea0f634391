/** Applies what has happened to the state; pure: what must be done about it comes back as effects. */

import type { WatchFrame, WatchHello } from "../../protocol/watch-json.ts";
import { formatDuration } from "../../util/units.ts";
import { cleanLine, count } from "../../util/text.ts";
import { handleKey } from "./commands.ts";
import { reopenLogs, takeLog } from "./logs.ts";
import type { ActResult, Reduced, TopEvent } from "./event.ts";
import { withScroll } from "./moves.ts";
import { followChosen, refreshMarks } from "./rows.ts";
import { flash, MAX_HISTORY, type TopState } from "./state.ts";

/** `now` is this machine's clock that never goes back, in milliseconds. */
export function reduce(before: TopState, event: TopEvent, now: number): Reduced {
  const state = expire({ ...before, now });
  if (event.type === "key") return handleKey(state, event.key);
  return { state: applyEvent(state, event), effects: [] };
}

function applyEvent(state: TopState, event: Exclude<TopEvent, { type: "key" }>): TopState {
  switch (event.type) {
    case "tick":
      return state;
    case "resize":
      return withScroll({ ...state, size: { columns: event.columns, rows: event.rows } });
    case "connecting": {
      const { connection } = state;
      // What went wrong stays to be read until the try has succeeded.
      if (connection.state === "down")
        return { ...state, connection: { ...connection, isTrying: true, attempt: event.attempt } };
      const since = connection.state === "connecting" ? connection.since : state.now;
      return { ...state, connection: { state: "connecting", since, attempt: event.attempt } };
    }
    case "hello":
      return onHello(state, event.hello);
    case "frame":
      return onFrame(state, event.frame);
    case "down": {
      const { reason, attempt, retryAt, isAuth } = event;
      const since = state.connection.state === "down" ? state.connection.since : state.now;
      return {
        ...state,
        awaySince: state.awaySince ?? state.now,
        connection: { state: "down", since, reason, attempt, retryAt, isAuth, isTrying: false },
      };
    }
    case "shown":
      return { ...state, droppedInARow: event.droppedInARow };
    case "acted":
      return onResults(state, event.results);
    case "log":
    case "log_ended":
      return takeLog(state, event);
  }
}

function expire(state: TopState): TopState {
  return state.flash !== null && state.now >= state.flash.until ? { ...state, flash: null } : state;
}

function onHello(state: TopState, hello: WatchHello): TopState {
  const isOther = state.hello !== null && state.hello.head.id !== hello.head.id;
  return reopenLogs({
    ...state,
    hello,
    connection: { state: "open" },
    history: hello.history.points.slice(-MAX_HISTORY),
    restartedAt: isOther ? state.now : state.restartedAt,
    workersBefore: isOther ? (state.frame?.totals.workers.total ?? 0) : state.workersBefore,
  });
}

/** After a restart of the head the list may be short for this long. */
const RETURNING_MS = 15_000;
/** Refresh by the number of workers: 1 s up to 50, 2 s up to 500, 3 s above. */
const INTERVALS = [
  { workers: 50, ms: 1000 },
  { workers: 500, ms: 2000 },
] as const;

function intervalFor(workers: number): number {
  return INTERVALS.find((step) => workers <= step.workers)?.ms ?? 3000;
}

function onFrame(state: TopState, frame: WatchFrame): TopState {
  const before = state.frame;
  const { total } = frame.totals.workers;
  const returning =
    state.restartedAt !== null &&
    state.now - state.restartedAt < RETURNING_MS &&
    total < state.workersBefore;
  const next: TopState = {
    ...state,
    frame,
    frameAt: state.now,
    connection: { state: "open" },
    awaySince: null,
    marks: refreshMarks(state.marks, frame),
    history: frame.point ? [...state.history, frame.point].slice(-MAX_HISTORY) : state.history,
    intervalMs: state.options.intervalMs ?? intervalFor(total),
    restartedAt: returning ? state.restartedAt : null,
    tabs:
      frame.view === state.view
        ? { ...state.tabs, [state.view]: followChosen(state.tabs[state.view], frame) }
        : state.tabs,
  };
  const { awaySince } = state;
  return withScroll(
    awaySince === null || before === null
      ? next
      : flash(next, backText(state.now - awaySince, before, frame)),
  );
}

/** The strip has a mark for each worker, in the order of their names. */
function backText(awayMs: number, before: WatchFrame, after: WatchFrame): string {
  const away = `reconnected after ${formatDuration(awayMs)}`;
  const isSame = before.strip.length === after.strip.length;
  const changed = [...after.strip].filter((mark, i) => mark !== before.strip[i]).length;
  if (!isSame || changed === 0) return away;
  return `${away}; ${count(changed, "worker")} changed state`;
}

function onResults(state: TopState, results: ActResult[]): TopState {
  const refused = results.filter(({ lastOf }) => lastOf.length > 0);
  const [first] = refused;
  if (first) return confirmWithName(state, refused);
  const failed = results.filter(({ ok }) => !ok);
  const [problem] = failed;
  if (problem) return flash(state, problem.text, "broken");
  const [only] = results;
  return flash(
    state,
    results.length === 1 && only ? only.text : `${count(results.length, "action")} done`,
  );
}

/** The head has listed what would be lost: now its name must be typed. */
function confirmWithName(state: TopState, refused: ActResult[]): TopState {
  const models = [...new Set(refused.flatMap(({ lastOf }) => lastOf))];
  const [model = ""] = models;
  const workers = refused.map(({ action }) =>
    action.verb === "cancel" ? action.request : action.worker,
  );
  const verb = refused[0]?.action.verb ?? "drain";
  return {
    ...state,
    dialog: {
      kind: "confirm",
      title: `${verb[0]?.toUpperCase()}${verb.slice(1)} ${workers.join(" ")}?`,
      lines: [
        `! ${models.join(", ")}:`,
        `! ${models.length === 1 ? "it" : "they"} will have NO ready replica after this.`,
      ],
      actions: refused.map(({ action }) => ({ ...action, force: true })),
      needed: typeable(model),
      typed: "",
      focus: "cancel",
    },
  };
}

/** How much of a name has to be typed; never what cannot be seen. */
const MAX_TYPED = 40;

function typeable(name: string): string {
  return [...cleanLine(name, 4 * MAX_TYPED)].slice(0, MAX_TYPED).join("").trim() || "yes";
}
