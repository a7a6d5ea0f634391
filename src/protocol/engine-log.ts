/** An engine's output on its way from its worker to whoever reads it: what is asked, what comes. */

import { LlmnodeError } from "./errors.ts";

/** In place of an engine's number: the request is for the worker itself, and reaches no engine. */
export const WORKER_TARGET = "worker";

/** The worker's own path for its engine's output; the question is in the query. */
export const LOG_PATH = "/log";

/** The answer's type: one LogEvent a line; empty lines are signs of life. */
export const LOG_TYPE = "application/x-ndjson";

export interface LogQuery {
  /** Goes on with what comes. */
  follow: boolean;
  /** At most so many lines of what there is; null: all. */
  tail: number | null;
  /** Only what was written in the last so many milliseconds. */
  sinceMs: number | null;
  /** The run before the present one; it cannot be followed. */
  previous: boolean;
  /** Goes on behind what a `position` event named, word for word; then the rest matters only if that log is gone. */
  from: string | null;
}

/** As they stand in the answer, as JSON. Readers pass over types that they do not know. */
export type LogEvent =
  | { type: "line"; text: string }
  /** What the unfinished line shows by now; a `line` follows when it is finished. */
  | { type: "live"; text: string }
  /** Not shown: lines that the reader was too slow for, and bytes that nobody has read. */
  | { type: "left_out"; lines: number; lost_bytes: number }
  /** The engine was started; the following lines are of this run. */
  | { type: "run"; run: string; started_at: string }
  /** Everything before it has been told: for `from`. */
  | { type: "position"; position: string }
  /** There is no more. Without it the answer broke off. */
  | { type: "end" }
  | { type: "error"; code: string; message: string };

const MAX_TAIL = 10_000_000;
const MAX_SINCE_MS = 1e12;

export function formatLogQuery(query: LogQuery): string {
  const words = new URLSearchParams();
  if (query.follow) words.set("follow", "1");
  if (query.tail !== null) words.set("tail", String(query.tail));
  if (query.sinceMs !== null) words.set("since_ms", String(query.sinceMs));
  if (query.previous) words.set("previous", "1");
  if (query.from !== null) words.set("from", query.from);
  return words.toString();
}

/** Throws `bad_request`. */
export function parseLogQuery(words: URLSearchParams): LogQuery {
  const from = words.get("from");
  const follow = isOn(words, "follow");
  const previous = isOn(words, "previous");
  if (follow && previous) throw invalid("follow");
  if (from !== null && !/^[\w-]{1,64}:\d{1,16}:\d{1,3}$/.test(from)) throw invalid("from");
  return {
    follow,
    tail: whole(words, "tail", MAX_TAIL),
    sinceMs: whole(words, "since_ms", MAX_SINCE_MS),
    previous,
    from,
  };
}

function isOn(words: URLSearchParams, key: string): boolean {
  const value = words.get(key) ?? "0";
  if (value !== "0" && value !== "1") throw invalid(key);
  return value === "1";
}

function whole(words: URLSearchParams, key: string, max: number): number | null {
  const value = words.get(key);
  if (value === null) return null;
  if (!/^\d{1,16}$/.test(value) || Number(value) > max) throw invalid(key);
  return Number(value);
}

function invalid(key: string): LlmnodeError {
  return new LlmnodeError("bad_request", `${key} is not understood.`, { param: key });
}
