import { expect, test } from "bun:test";
import { parseUntil } from "../../../src/cli/join/until.ts";

/** Local time, as the clock of this machine shows it. */
const NOW = new Date(2026, 10, 21, 12, 30).getTime();
const local = (...parts: [number, number, number, number, number, number?]) =>
  new Date(...parts).getTime();

test.each([
  ["+2h", NOW + 7_200_000],
  ["2h", NOW + 7_200_000],
  ["+1h30m", NOW + 5_400_000],
  ["+1.5h", NOW + 5_400_000],
  ["+90s", NOW + 90_000],
  ["@1795285800", 1_795_285_800_000],
  ["18:30", local(2026, 10, 21, 18, 30)],
  ["18:30:15", local(2026, 10, 21, 18, 30, 15)],
  ["8:05", local(2026, 10, 22, 8, 5)],
  ["12:30", local(2026, 10, 22, 12, 30)],
  ["00:00", local(2026, 10, 22, 0, 0)],
  ["2026-11-21T18:30:00Z", Date.UTC(2026, 10, 21, 18, 30)],
  ["2026-11-21T18:30:00.5Z", Date.UTC(2026, 10, 21, 18, 30, 0, 500)],
  ["2026-11-21t18:30:00+02:00", Date.UTC(2026, 10, 21, 16, 30)],
  ["2026-11-21 18:30Z", Date.UTC(2026, 10, 21, 18, 30)],
  ["2026-11-21T18:30:00", local(2026, 10, 21, 18, 30)],
  ["2026-11-21T18:30", local(2026, 10, 21, 18, 30)],
  ["2020-02-29T00:00:00Z", Date.UTC(2020, 1, 29)],
])("%p", (text, at) => {
  expect(parseUntil(text, NOW)).toBe(at);
});

test.each([
  ...["", "soon", "2", "+", "+2", "-2h", "2h 30m", "2h30", "1e3s", "@", "@x", "@-1", "24:00"],
  ...["18:60", "18:3", "1830", "18:30Z", "18:30:60", "2026-11-21", "2026-02-30T10:00:00Z"],
  ...["2026-13-01T10:00:00Z", "2026-11-21T25:00:00Z", "2026-11-21T18:30:00 Z", " 18:30"],
  ...["2026-11-21T18:30:00+2", "N/A", "Unknown", "UNLIMITED"],
])("%p is no time", (text) => {
  expect(parseUntil(text, NOW)).toBeNull();
});
