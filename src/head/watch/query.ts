/** Reads a viewer's query, from a URL or a body. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { WatchQuery } from "../../protocol/watch-json.ts";
import { VIEWS } from "../../protocol/watch-rows.ts";
import { parseDuration } from "../../util/units.ts";

const MAX_LIMIT = 10_000;
const MAX_OFFSET = 1_000_000;
const MAX_MODELS_BESIDE = 50;
const MIN_INTERVAL_MS = 200;
const MAX_INTERVAL_MS = 60_000;
const MAX_TEXT = 512;

/** The parameters of a URL. Throws `bad_request`. */
export function readWatchWords(words: URLSearchParams): WatchQuery {
  return readWatchQuery(Object.fromEntries(words));
}

/** Values are texts, or of the types that the query has. Throws `bad_request`. */
export function readWatchQuery(given: Readonly<Record<string, unknown>>): WatchQuery {
  const view = textIn(given, "view") ?? "workers";
  const known = VIEWS.find((one) => one === view);
  if (known === undefined) throw wrong("view", `one of ${VIEWS.join(", ")}`);
  return {
    view: known,
    sort: textIn(given, "sort") ?? "problems",
    filter: textIn(given, "filter") ?? "",
    offset: whole(given, "offset", { min: 0, max: MAX_OFFSET, otherwise: 0 }),
    limit: whole(given, "limit", { min: 1, max: MAX_LIMIT, otherwise: 100 }),
    interval_ms: intervalIn(given),
    gone: isOn(given["gone"]),
    models_beside: whole(given, "models_beside", { min: 0, max: MAX_MODELS_BESIDE, otherwise: 0 }),
    detail: textIn(given, "detail"),
  };
}

/** `interval_ms`, or `interval` with a unit, as people type it. */
function intervalIn(given: Readonly<Record<string, unknown>>): number {
  const typed = textIn(given, "interval");
  const range = { min: MIN_INTERVAL_MS, max: MAX_INTERVAL_MS, otherwise: 1000 };
  if (typed === null) return whole(given, "interval_ms", range);
  const ms = /^\d+$/.test(typed) ? Number(typed) : parseDuration(typed);
  if (ms !== null && ms >= range.min && ms <= range.max) return ms;
  throw wrong("interval", "from 200ms to 60s");
}

function textIn(given: Readonly<Record<string, unknown>>, key: string): string | null {
  const value = given[key];
  if (value === undefined || value === null || value === "") return null;
  if (typeof value === "string" && value.length <= MAX_TEXT) return value;
  throw wrong(key, `a text of at most ${MAX_TEXT} characters`);
}

function whole(
  given: Readonly<Record<string, unknown>>,
  key: string,
  range: { min: number; max: number; otherwise: number },
): number {
  const value = given[key];
  if (value === undefined || value === null || value === "") return range.otherwise;
  const n = typeof value === "string" && /^\d{1,9}$/.test(value) ? Number(value) : value;
  if (typeof n === "number" && Number.isInteger(n) && n >= range.min && n <= range.max) return n;
  throw wrong(key, `a whole number from ${range.min} to ${range.max}`);
}

function isOn(value: unknown): boolean {
  return value === true || value === "1" || value === "true" || value === "";
}

function wrong(key: string, wanted: string): LlmnodeError {
  return new LlmnodeError("bad_request", `${key} must be ${wanted}.`, { param: key });
}
