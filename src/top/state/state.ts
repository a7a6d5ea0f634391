/** What `llmnode top` knows and shows, as data; `reduce.ts` is its only writer. */

import type {
  HistoryPoint,
  WatchFrame,
  WatchHello,
  WatchQuery,
} from "../../protocol/watch-json.ts";
import type { RequestRow, View, WorkerRow } from "../../protocol/watch-rows.ts";
import { FIRST_SORT } from "./sorts.ts";
import type { Tone } from "../text/styled.ts";

export interface TopOptions {
  /** The head's URL, as it is shown. */
  head: string;
  view: View;
  sort: string | null;
  filter: string;
  /** Null: by the number of workers. */
  intervalMs: number | null;
  readonly: boolean;
  /** The name under which orders are shown to others. */
  who: string;
}

export type Connection =
  | { state: "connecting"; since: number; attempt: number }
  | { state: "open" }
  | {
      state: "down";
      since: number;
      reason: string;
      attempt: number;
      retryAt: number;
      isAuth: boolean;
      /** Whether the next try is under way. */
      isTrying: boolean;
    };

/** What a person has chosen in one view. */
export interface Tab {
  sort: string;
  filter: string;
  /** A field by which rows are grouped; null: none. */
  group: string | null;
  /** The chosen row, counted in all that match, and what it is. */
  cursor: number;
  chosen: string | null;
  /** The first row that is drawn. */
  scroll: number;
}

export type Action =
  // By its id: another worker that has got the name since then is not meant.
  | { verb: "drain" | "undrain" | "restart" | "forget"; worker: string; id: string; force: boolean }
  | { verb: "cancel"; request: string; force: boolean };

export interface Confirm {
  kind: "confirm";
  title: string;
  lines: string[];
  actions: Action[];
  /** What must be typed for it; null: `y` will do. */
  needed: string | null;
  typed: string;
  /** What Enter does, while nothing must be typed. */
  focus: "cancel" | "go";
}

export interface SortPicker {
  kind: "sort";
  cursor: number;
}

export interface LogsState {
  /** `worker/1` */
  engine: string;
  lines: LogLine[];
  /** Lines that are older than what is kept, or were left out on the way. */
  skipped: number;
  follow: boolean;
  wrap: boolean;
  times: boolean;
  previous: boolean;
  /** Only what is younger; null: the last lines. */
  sinceMs: number | null;
  /** Lines above the end, while it does not follow. */
  scroll: number;
  search: string;
  ended: string | null;
  /** A line that is still being written, such as a bar of progress. */
  live: string | null;
  /** Counts how often this log was opened again. */
  take: number;
}

export interface LogLine {
  time: string | null;
  text: string;
  /** By the words in it. */
  level: "error" | "warn" | "plain";
}

/** What fills the screen below the header. */
export type Page =
  | { kind: "table" }
  | { kind: "worker"; name: string; scroll: number }
  | { kind: "model"; name: string; scroll: number }
  | { kind: "request"; id: string }
  | { kind: "logs"; logs: LogsState; back: Page };

export interface Editing {
  what: "filter" | "search";
  text: string;
  /** In characters. */
  cursor: number;
}

export interface TopState {
  options: TopOptions;
  size: { columns: number; rows: number };
  /** On this machine's clock that never goes back, in milliseconds. */
  now: number;
  connection: Connection;
  hello: WatchHello | null;
  frame: WatchFrame | null;
  /** When the frame came. */
  frameAt: number;
  /** What is drawn instead while the screen is frozen. */
  frozen: { frame: WatchFrame; at: number; history: readonly HistoryPoint[] } | null;
  history: readonly HistoryPoint[];
  view: View;
  tabs: Readonly<Record<View, Tab>>;
  page: Page;
  dialog: Confirm | SortPicker | { kind: "help" } | null;
  editing: Editing | null;
  /** By their ids, as they were last seen: they may have left the window. */
  marks: ReadonlyMap<string, WorkerRow | RequestRow>;
  wide: boolean;
  gone: boolean;
  intervalMs: number;
  flash: { text: string; tone: Tone; until: number } | null;
  /** Frames in a row that the terminal did not take. */
  droppedInARow: number;
  /** Since when there was no connection, until the first frame after that; null: there is one. */
  awaySince: number | null;
  /** Since when a head that has restarted is still without some workers; null: it is not. */
  restartedAt: number | null;
  /** Workers that the head had before it restarted. */
  workersBefore: number;
}

/** 15 minutes of points that come every 2 s. */
export const MAX_HISTORY = 450;
export const MAX_LOG_LINES = 5000;

/** No row is chosen yet, and the first one is drawn. */
export const AT_TOP = { cursor: 0, chosen: null, scroll: 0 };

export function startState(
  options: TopOptions,
  at: { now: number; size: { columns: number; rows: number } },
): TopState {
  const tab = (view: View): Tab => ({
    sort: view === options.view ? (options.sort ?? FIRST_SORT[view]) : FIRST_SORT[view],
    filter: view === options.view ? options.filter : "",
    group: null,
    ...AT_TOP,
  });
  return {
    options,
    size: at.size,
    now: at.now,
    connection: { state: "connecting", since: at.now, attempt: 1 },
    hello: null,
    frame: null,
    frameAt: at.now,
    frozen: null,
    history: [],
    view: options.view,
    tabs: {
      workers: tab("workers"),
      models: tab("models"),
      requests: tab("requests"),
      events: tab("events"),
    },
    page: { kind: "table" },
    dialog: null,
    editing: null,
    marks: new Map(),
    wide: false,
    gone: false,
    intervalMs: options.intervalMs ?? 1000,
    flash: null,
    droppedInARow: 0,
    awaySince: null,
    restartedAt: null,
    workersBefore: 0,
  };
}

const FLASH_MS = 4000;

/** Shows a message for some seconds. */
export function flash(state: TopState, text: string, tone: Tone = "strong"): TopState {
  return { ...state, flash: { text, tone, until: state.now + FLASH_MS } };
}

/** How much the data can be trusted, in one word. */
export type Freshness = "connecting" | "live" | "slow" | "stale" | "auth";

/** Intervals without a frame after which the data are late, and old. */
const SLOW_INTERVALS = 2.5;
const STALE_INTERVALS = 5;

export function freshness(state: TopState): Freshness {
  const { connection, frame, now, frameAt, intervalMs } = state;
  if (connection.state === "down") {
    if (connection.isAuth) return "auth";
    return frame === null ? "connecting" : "stale";
  }
  if (frame === null) return "connecting";
  const age = now - frameAt;
  if (age > STALE_INTERVALS * intervalMs) return "stale";
  if (age > SLOW_INTERVALS * intervalMs || state.droppedInARow > 3) return "slow";
  return connection.state === "open" ? "live" : "slow";
}

/** Whether a line shows what is wrong between the head and us. */
export function hasBanner(state: TopState): boolean {
  return state.connection.state === "down" || freshness(state) === "stale";
}

/** Whether keys that change something do it; else why not. */
export function mayAct(state: TopState): { may: true } | { may: false; why: string } {
  if (state.options.readonly) return { may: false, why: "read-only: llmnode top --readonly" };
  if (state.hello?.role === "viewer")
    return { may: false, why: "read-only: this key may only look; changes need an operator's key" };
  const fresh = freshness(state);
  if (fresh === "live" || fresh === "slow") return { may: true };
  return { may: false, why: "not while the data are old" };
}

/** The frame that is drawn. */
export function shownFrame(state: TopState): WatchFrame | null {
  return state.frozen?.frame ?? state.frame;
}

/** A page before the one that is seen and two behind it: there before they are scrolled to. */
const PAGES = 4;
/** From so many rows on there is room for the replicas of the chosen model. */
export const REPLICAS_FROM_ROWS = 24;

/** The cursor is on the first one until a person has moved it. */
function firstModel(frame: WatchFrame | null): string | null {
  const [first] = frame?.view === "models" ? frame.rows : [];
  return first && "name" in first ? first.name : null;
}

/** What the head is to send. */
export function queryOf(state: TopState, pageRows: number): WatchQuery {
  const { view, page } = state;
  const tab = state.tabs[view];
  const rows = Math.max(10, pageRows);
  const detail = page.kind === "logs" ? page.back : page;
  const hasReplicas =
    view === "models" && detail.kind === "table" && state.size.rows >= REPLICAS_FROM_ROWS;
  return {
    view,
    sort: tab.sort,
    filter: tab.filter,
    // In whole pages: the head does not hear of every step.
    offset: Math.max(0, Math.floor(tab.scroll / rows) - 1) * rows,
    limit: rows * PAGES,
    interval_ms: state.intervalMs,
    gone: state.gone,
    models_beside: view === "workers" && state.size.rows >= 35 ? 12 : 0,
    detail:
      detail.kind === "worker" || detail.kind === "model"
        ? detail.name
        : hasReplicas
          ? (tab.chosen ?? firstModel(state.frame))
          : null,
  };
}
