import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decideRestart,
  type EngineEnd,
  type RestartPolicy,
} from "../../../src/engine/supervise/restart.ts";
import type { RestartMode } from "../../../src/engine/spec.ts";
import { SUPERVISOR_DEFAULTS } from "../../../src/engine/supervise/settings.ts";

const T0 = 1_763_683_200_000;
const end = (more: Partial<EngineEnd> = {}): EngineEnd => ({
  readyMs: 1_000,
  endedAtMs: T0,
  code: 1,
  isDeterministic: false,
  ...more,
});
const policy = (restart: RestartMode): RestartPolicy => ({ ...SUPERVISOR_DEFAULTS, restart });
const decide = (ends: EngineEnd[], restart: RestartMode = "always", now = T0) =>
  decideRestart(ends, policy(restart), now);
const delay = (...ends: EngineEnd[]) => {
  const decision = decide(ends);
  return decision.action === "restart" ? decision.delayMs : decision.action;
};

const crash = end();
const afterLongLife = end({ readyMs: 600_000 });
const same = end({ isDeterministic: true });
const times = (count: number, what: EngineEnd) => Array<EngineEnd>(count).fill(what);

test("the wait doubles from 1 s to 60 s", () => {
  const delays = Array.from({ length: 9 }, (_, i) => delay(...times(i + 1, crash)));
  expect(delays).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  expect(delay(...times(10_000, crash))).toBe(60_000);
});

test("ten healthy minutes start it anew", () => {
  expect(delay(crash, crash, crash, afterLongLife)).toBe(1000);
  expect(delay(crash, crash, afterLongLife, crash)).toBe(2000);
  expect(delay(end({ readyMs: 599_999 }), end({ readyMs: 599_999 }))).toBe(2000);
});

test("the wait counts from the end, whatever was cleaned up since", () => {
  const after = (ms: number) => decide([crash, crash], "always", T0 + ms);
  expect(after(1500)).toEqual({ action: "restart", delayMs: 500 });
  expect(after(9000)).toEqual({ action: "restart", delayMs: 0 });
  expect(after(-9000)).toEqual({ action: "restart", delayMs: 2000 });
});

test("five deterministic failures in a row give up; one of another kind counts anew", () => {
  expect(delay(...times(4, same))).toBe(8000);
  expect(delay(...times(5, same))).toBe("give_up");
  expect(delay(...times(3, same), crash, ...times(4, same))).toBe(60_000);
  expect(delay(crash, ...times(5, same))).toBe("give_up");
});

test("on-failure takes an exit with 0 as done, and only that", () => {
  const done = end({ code: 0 });
  expect(decide([done], "on-failure")).toEqual({ action: "end", isDone: true });
  expect(decide([crash], "on-failure").action).toBe("restart");
  // Killed, or an adopted one whose code nobody knows.
  expect(decide([end({ code: null })], "on-failure").action).toBe("restart");
  expect(decide([done], "always").action).toBe("restart");
});

test("no takes any exit as final, and 0 is no excuse", () => {
  for (const code of [0, 1, null]) {
    expect(decide([end({ code })], "no")).toEqual({ action: "end", isDone: false });
  }
});

test("no past makes it wait longer than the limit, or less than nothing", () => {
  const any = fc.record({
    readyMs: fc.nat(10_000_000),
    endedAtMs: fc.integer({ min: T0 - 1e9, max: T0 }),
    code: fc.option(fc.nat(255), { nil: null }),
    isDeterministic: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(any), fc.nat(1e9), (ends, later) => {
      const decision = decideRestart(ends, policy("always"), T0 + later);
      if (decision.action !== "restart") return decision.action === "give_up";
      return decision.delayMs >= 0 && decision.delayMs <= 60_000;
    }),
  );
});
