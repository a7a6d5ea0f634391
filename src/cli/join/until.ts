/** Reads a time at which something ends, as people and batch systems write it. */

import { parseDuration } from "../../util/units.ts";

/** For messages: "--until needs ...". */
export const UNTIL_FORMS = "a time such as 18:30, +2h30m, 2026-11-21T18:30:00Z or @1795285800";

/**
 * Unix milliseconds, or null for what is no time. Understood are RFC 3339 (`2026-11-21T18:30:00Z`;
 * without an offset it is local time, which is how Slurm writes it), `18:30` or `18:30:00` (the next
 * such time on this machine's clock), `+2h30m` (from `now` on) and `@<Unix seconds>` (Slurm's
 * SLURM_JOB_END_TIME). May lie in the past.
 */
export function parseUntil(text: string, now: number): number | null {
  if (/^@\d{1,11}$/.test(text)) return Number(text.slice(1)) * 1000;
  const durationMs = parseLongDuration(text.replace(/^\+/, ""));
  if (durationMs !== null) return now + durationMs;
  const clock = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(text);
  if (clock)
    return nextAt(
      clock.slice(1).map((part) => Number(part ?? 0)),
      now,
    );
  const moment =
    /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(Z|z|[+-]\d{2}:\d{2})?$/;
  const [, date = "", time = "", offset = ""] = moment.exec(text) ?? [];
  if (date === "" || !isDate(date)) return null;
  const at = Date.parse(`${date}T${time}${offset.toUpperCase()}`);
  return Number.isNaN(at) ? null : at;
}

/** `2h`, `1h30m`; null if it is none. */
function parseLongDuration(text: string): number | null {
  const parts = text.match(/\d+(?:\.\d+)?[a-z]+/g) ?? [];
  if (parts.length === 0 || parts.join("") !== text) return null;
  return parts.reduce<number | null>((sum, part) => {
    const ms = parseDuration(part);
    return sum === null || ms === null ? null : sum + ms;
  }, 0);
}

function nextAt([hour = 0, minute = 0, second = 0]: number[], now: number): number | null {
  if (hour > 23 || minute > 59 || second > 59) return null;
  const at = new Date(now);
  at.setHours(hour, minute, second, 0);
  if (at.getTime() <= now) at.setDate(at.getDate() + 1);
  return at.getTime();
}

/** Whether the month has that day: `Date` itself makes a 2nd of March of a 30th of February. */
function isDate(date: string): boolean {
  const at = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(date);
}
