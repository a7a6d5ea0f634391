/** The log of one engine as it is shown: what is kept of it, and what keys do with it. */

import { cleanLine } from "../../util/text.ts";
import type { Key } from "../terminal/keys.ts";
import type { LogEvent } from "./event.ts";
import {
  flash,
  type LogLine,
  type LogsState,
  MAX_LOG_LINES,
  type Page,
  type TopState,
} from "./state.ts";

const MAX_LINE_CHARS = 4000;
const ERROR = /\b(?:error|exception|traceback|fatal|critical|out of memory)\b/i;
const WARN = /\bwarn(?:ing)?\b/i;

export function startLogs(engine: string, back: Page): Page {
  const logs: LogsState = {
    ...EMPTY,
    engine,
    wrap: false,
    times: false,
    previous: false,
    sinceMs: null,
    search: "",
    take: 0,
  };
  return { kind: "logs", logs, back: back.kind === "logs" ? back.back : back };
}

/** What the log of an engine has brought; of another one than is shown it is dropped. */
export function takeLog(state: TopState, event: LogEvent): TopState {
  const { page } = state;
  if (page.kind !== "logs" || page.logs.engine !== event.engine) return state;
  if (event.type === "log_ended") {
    return withLogs(state, page, { ended: event.reason, live: null });
  }
  const fresh = event.lines.map(({ time, text }) => logLine(time, text));
  const lines = [...page.logs.lines, ...fresh];
  const tooMany = Math.max(0, lines.length - MAX_LOG_LINES);
  const live =
    event.live === undefined || event.live === null
      ? fresh.length > 0
        ? null
        : page.logs.live
      : cleanLine(event.live, MAX_LINE_CHARS);
  return withLogs(state, page, {
    live,
    lines: tooMany > 0 ? lines.slice(tooMany) : lines,
    skipped: page.logs.skipped + event.skipped + tooMany,
    // The lines on the screen stay where they are while more come.
    scroll: page.logs.follow
      ? 0
      : Math.min(page.logs.scroll + fresh.length, Math.max(0, MAX_LOG_LINES - 1)),
  });
}

/** A log that broke off with the connection is opened again when that is back. */
export function reopenLogs(state: TopState): TopState {
  const { page } = state;
  if (page.kind !== "logs" || page.logs.ended === null || page.logs.previous) return state;
  return withLogs(state, page, { ...EMPTY, take: page.logs.take + 1 });
}

const EMPTY = { lines: [], skipped: 0, scroll: 0, ended: null, live: null, follow: true };

function logLine(time: string | null, raw: string): LogLine {
  const text = cleanLine(raw, MAX_LINE_CHARS);
  return { time, text, level: ERROR.test(text) ? "error" : WARN.test(text) ? "warn" : "plain" };
}

type LogsPage = Extract<Page, { kind: "logs" }>;

function withLogs(state: TopState, page: LogsPage, change: Partial<LogsState>): TopState {
  return { ...state, page: { ...page, logs: { ...page.logs, ...change } } };
}

/** `0` to `6`: how far back. */
const SINCE_MS: readonly (number | null)[] = [
  null,
  null,
  60_000,
  300_000,
  900_000,
  1_800_000,
  3_600_000,
];

const MOVES: Partial<Record<string, string>> = { k: "up", j: "down", g: "home", G: "end" };

/** Null: not a key of this page. */
export function logsKey(state: TopState, key: Key, pageRows: number): TopState | null {
  const { page } = state;
  if (page.kind !== "logs") return null;
  const { logs } = page;
  const set = (change: Partial<LogsState>) => withLogs(state, page, change);
  const most = Math.max(0, logs.lines.length - pageRows);
  const scrollBy = (lines: number) => {
    const scroll = Math.max(0, Math.min(most, logs.scroll + lines));
    return set({ scroll, follow: scroll === 0 && logs.follow && lines < 0 });
  };
  const what = key.key === "text" ? (MOVES[key.text] ?? key.text) : key.key;
  switch (what) {
    case "up":
      return scrollBy(1);
    case "down":
      return scrollBy(-1);
    case "pageup":
      return scrollBy(pageRows);
    case "pagedown":
      return scrollBy(-pageRows);
    case "home":
      return set({ scroll: most, follow: false });
    case "end":
      return set({ scroll: 0, follow: true });
    case "f":
      return set({ follow: !logs.follow, scroll: logs.follow ? logs.scroll : 0 });
    case "w":
      return set({ wrap: !logs.wrap });
    case "t":
      return logs.lines.some(({ time }) => time !== null)
        ? set({ times: !logs.times })
        : flash(state, "this log has no times", "changing");
    case "p":
      return set({ ...EMPTY, previous: !logs.previous });
    case "n":
    case "N":
      return search(state, page, { older: what === "n", pageRows });
    case "/":
      return {
        ...state,
        editing: { what: "search", text: logs.search, cursor: logs.search.length },
      };
    default: {
      const sinceMs = SINCE_MS[/^\d$/.test(what) ? Number(what) : -1];
      return sinceMs === undefined ? null : set({ ...EMPTY, sinceMs });
    }
  }
}

/** Scrolls to the next line with the search text; stays where it is when there is none. */
export function search(
  state: TopState,
  page: LogsPage,
  how: { older: boolean; pageRows: number; text?: string },
): TopState {
  const { logs } = page;
  const text = (how.text ?? logs.search).toLowerCase();
  if (text === "") return withLogs(state, page, { search: "" });
  const bottom = logs.lines.length - 1 - logs.scroll;
  const step = how.older ? -1 : 1;
  for (let at = bottom + step; at >= 0 && at < logs.lines.length; at += step) {
    if (!logs.lines[at]?.text.toLowerCase().includes(text)) continue;
    return withLogs(state, page, {
      search: how.text ?? logs.search,
      scroll: logs.lines.length - 1 - at,
      follow: false,
    });
  }
  return withLogs(state, page, { search: how.text ?? logs.search });
}
