import { expect, test } from "bun:test";
import { decideRestart, type EngineEnd } from "../../src/engine/restart.ts";
import { SUPERVISOR_DEFAULTS } from "../../src/engine/settings.ts";

const crash: EngineEnd = { readyMs: 1_000 };
const afterLongLife: EngineEnd = { readyMs: 600_000 };
const delay = (...ends: EngineEnd[]) => decideRestart(ends, SUPERVISOR_DEFAULTS).delayMs;

test("the wait doubles from 1 s to 60 s", () => {
  const delays = Array.from({ length: 9 }, (_, i) => delay(...Array(i + 1).fill(crash)));
  expect(delays).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  expect(delay(...Array(10_000).fill(crash))).toBe(60_000);
});

test("ten healthy minutes start it anew", () => {
  expect(delay(crash, crash, crash, afterLongLife)).toBe(1000);
  expect(delay(crash, crash, afterLongLife, crash)).toBe(2000);
  expect(delay({ readyMs: 599_999 }, { readyMs: 599_999 })).toBe(2000);
});
