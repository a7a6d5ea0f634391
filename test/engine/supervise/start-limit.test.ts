import { expect, test } from "bun:test";
import {
  noteStart,
  stalledMs,
  type StartMark,
  type StartSample,
} from "../../../src/engine/supervise/start-watch.ts";

const sample = (atMs: number, more: Partial<StartSample> = {}): StartSample => ({
  atMs,
  lines: 3,
  phase: "load",
  cacheBytes: 0,
  cpuMs: 1_000,
  ...more,
});

function marksOf(...samples: StartSample[]): StartMark {
  let mark: StartMark | null = null;
  for (const one of samples) mark = noteStart(mark, one);
  if (mark === null) throw new Error("no sample");
  return mark;
}

test("the first look begins the count", () => {
  expect(stalledMs(marksOf(sample(500)))).toBe(0);
});

test("nothing moves: the time since the last progress", () => {
  expect(stalledMs(marksOf(sample(0), sample(5_000), sample(10_000)))).toBe(10_000);
});

test.each([
  ["a line", { lines: 4 }],
  ["a phase", { phase: "compile" }],
  ["a percentage", { phase: "load 40%" }],
  ["growth of the cache", { cacheBytes: 1 }],
  ["work", { cpuMs: 1_250 }],
])("%s is progress", (_, more) => {
  expect(stalledMs(marksOf(sample(0), sample(5_000, more)))).toBe(0);
  expect(stalledMs(marksOf(sample(0), sample(5_000, more), sample(8_000, more)))).toBe(3_000);
});

test.each([
  ["less than a twentieth of a core is no work", { cpuMs: 1_249 }],
  ["time of processes that have ended is no work", { cpuMs: 200 }],
  ["nor is time that nobody knows", { cpuMs: null }],
  ["a cache that shrinks is no progress", { cacheBytes: -5 }],
])("%s", (_, more) => {
  expect(stalledMs(marksOf(sample(0), sample(5_000, more)))).toBe(5_000);
});

test("what is little at each look never adds up to progress", () => {
  const idle = Array.from({ length: 100 }, (_, i) => sample(i * 5_000, { cpuMs: 1_000 + i * 100 }));
  expect(stalledMs(marksOf(...idle))).toBe(99 * 5_000);
});
