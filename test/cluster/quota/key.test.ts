import { expect, test } from "bun:test";
import fc from "fast-check";
import { createKeyLimiter, type Granted, type KeyLimiter } from "../../../src/cluster/quota/key.ts";
import { giveBack, newWindow, sumAt, take, waitMs } from "../../../src/cluster/quota/window.ts";
import { type KeyLimits, NO_LIMITS } from "../../../src/protocol/caller.ts";

const MINUTE = 60_000;
const DAY = 86_400_000;
const NOON = 20_000 * DAY + DAY / 2;
const SMALL = { prompt: 10, answer: 10 };

const key = (limits: Partial<KeyLimits>, id = "k1") => ({
  id,
  limits: { ...NO_LIMITS, ...limits },
});

function granted(result: ReturnType<KeyLimiter["take"]>): Granted {
  if (!result.granted) throw new Error(`denied by ${result.limit}`);
  return result;
}

function denied(result: ReturnType<KeyLimiter["take"]>) {
  if (result.granted) throw new Error("granted");
  return [result.limit, result.retryAfterMs] as const;
}

test("of N + 1 requests at once exactly N are let through, and one more when the first is a minute old", () => {
  const limiter = createKeyLimiter();
  const limited = key({ requestsPerMinute: 5 });
  const left = Array.from({ length: 5 }, (_, i) => {
    const { requests } = granted(limiter.take(limited, SMALL, NOON + i));
    return requests?.remaining;
  });
  expect(left).toEqual([4, 3, 2, 1, 0]);
  // All five came within a moment, and are kept as one: it ends with the last of them.
  expect(denied(limiter.take(limited, SMALL, NOON + 5))).toEqual(["requestsPerMinute", MINUTE - 1]);
  expect(denied(limiter.take(limited, SMALL, NOON + MINUTE))).toEqual(["requestsPerMinute", 4]);
  granted(limiter.take(limited, SMALL, NOON + MINUTE + 4));
});

test("what is told to retry after is long enough, and no longer than a minute", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 50 }),
      fc.array(fc.integer({ min: 0, max: 8000 }), { minLength: 1, maxLength: 200 }),
      (limit, pauses) => {
        const limiter = createKeyLimiter();
        const limited = key({ requestsPerMinute: limit });
        const passed: number[] = [];
        let now = NOON;
        for (const pause of pauses) {
          now += pause;
          let result = limiter.take(limited, SMALL, now);
          if (!result.granted) {
            const waits = result.retryAfterMs ?? Number.NaN;
            expect(waits).toBeGreaterThan(0);
            expect(waits).toBeLessThanOrEqual(MINUTE);
            now += waits;
            result = limiter.take(limited, SMALL, now);
          }
          granted(result);
          passed.push(now);
          // Never more than the limit in any minute.
          expect(passed.filter((at) => at > now - MINUTE).length).toBeLessThanOrEqual(limit);
        }
      },
    ),
  );
});

test("a window counts never too little, and forgets in the end", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 2000 }), fc.integer({ min: 0, max: 100 })), {
        maxLength: 300,
      }),
      (steps) => {
        const window = newWindow(MINUTE);
        const all: [at: number, amount: number][] = [];
        let now = NOON;
        for (const [pause, amount] of steps) {
          now += pause;
          take(window, amount, now);
          all.push([now, amount]);
          const young = (ms: number) =>
            all.filter(([at]) => at > now - ms).reduce((sum, [, n]) => sum + n, 0);
          const sum = sumAt(window, now);
          expect(sum).toBeGreaterThanOrEqual(young(MINUTE));
          expect(sum).toBeLessThanOrEqual(young(MINUTE + MINUTE / 64));
          expect(window.entries.length).toBeLessThan(140);
        }
        expect(sumAt(window, now + MINUTE)).toBe(0);
        expect(window.entries).toEqual([]);
      },
    ),
  );
});

test("what is given back is free at once; what is old already changes nothing", () => {
  const window = newWindow(MINUTE);
  const first = take(window, 60, 1000);
  take(window, 40, 31_000);
  expect(waitMs(window, { amount: 30, limit: 100 }, 31_000)).toBe(30_000);
  expect(waitMs(window, { amount: 70, limit: 100 }, 31_000)).toBe(60_000);
  giveBack(window, first, 45);
  expect([sumAt(window, 31_000), waitMs(window, { amount: 30, limit: 100 }, 31_000)]).toEqual([
    55, 0,
  ]);
  expect(sumAt(window, 61_000)).toBe(40);
  giveBack(window, first, 15);
  expect(sumAt(window, 61_000)).toBe(40);
});

test("tokens are set aside, and settled by what the engine said", () => {
  const limiter = createKeyLimiter();
  const limited = key({ tokensPerMinute: 1000 });
  const ask = { prompt: 100, answer: 500 };
  const first = granted(limiter.take(limited, ask, NOON));
  expect(first.tokens).toEqual({ limit: 1000, remaining: 400, resetMs: MINUTE });
  expect(denied(limiter.take(limited, ask, NOON + 1000))).toEqual(["tokensPerMinute", 59_000]);
  first.end(150, NOON + 2000);
  first.end(150, NOON + 2000);
  const second = granted(limiter.take(limited, ask, NOON + 3000));
  expect(second.tokens?.remaining).toBe(250);
  // More than was set aside counts from when that is known.
  second.end(700, NOON + 30_000);
  expect(denied(limiter.take(limited, ask, NOON + 30_000))).toEqual(["tokensPerMinute", 33_000]);
  expect(granted(limiter.take(limited, ask, NOON + 63_000)).tokens?.remaining).toBe(300);
});

test("a prompt that can never fit is told so; a long answer does not keep a short one out for ever", () => {
  const limiter = createKeyLimiter();
  const limited = key({ tokensPerMinute: 100 });
  expect(denied(limiter.take(limited, { prompt: 101, answer: 0 }, NOON))).toEqual([
    "tokensPerMinute",
    null,
  ]);
  expect(granted(limiter.take(limited, { prompt: 50, answer: 1024 }, NOON)).tokens).toEqual({
    limit: 100,
    remaining: 0,
    resetMs: MINUTE,
  });
});

test("tokens of a day: refused for good once used up, for a moment while set aside, free at midnight", () => {
  const limiter = createKeyLimiter();
  const limited = key({ tokensPerDay: 1000 });
  limiter.restore("k1", 400, NOON);
  const ask = { prompt: 100, answer: 500 };
  const first = granted(limiter.take(limited, ask, NOON));
  expect(denied(limiter.take(limited, ask, NOON))).toEqual(["tokensPerDay", 1000]);
  first.end(50, NOON);
  granted(limiter.take(limited, ask, NOON)).end(550, NOON + 1000);
  expect(denied(limiter.take(limited, ask, NOON + 1000))).toEqual(["tokensPerDay", null]);
  expect(denied(limiter.take(limited, ask, NOON + DAY / 2 - 1))).toEqual(["tokensPerDay", null]);
  granted(limiter.take(limited, ask, NOON + DAY / 2));
});

test("a request over midnight costs the day on which it ends", () => {
  const limiter = createKeyLimiter();
  const limited = key({ tokensPerDay: 1000 });
  const late = granted(limiter.take(limited, SMALL, NOON));
  late.end(1000, NOON + DAY);
  expect(denied(limiter.take(limited, SMALL, NOON + DAY))).toEqual(["tokensPerDay", null]);
});

test("a key without limits costs no memory, and keys that are idle are forgotten", () => {
  const limiter = createKeyLimiter();
  for (let i = 0; i < 5000; i += 1) granted(limiter.take(key({}, `free-${i}`), SMALL, NOON));
  expect(limiter.size).toBe(0);
  for (let i = 0; i < 20_000; i += 1) {
    const now = NOON + i * 1000;
    granted(limiter.take(key({ requestsPerMinute: 9 }, `k${i}`), SMALL, now)).end(0, now);
  }
  expect(limiter.size).toBeLessThan(3000);
});

test("all or nothing, released exactly once, whatever the order of ends", () => {
  const limits = fc.record({
    requestsPerMinute: fc.option(fc.integer({ min: 1, max: 8 })),
    tokensPerMinute: fc.option(fc.integer({ min: 1, max: 3000 })),
    concurrency: fc.option(fc.integer({ min: 1, max: 4 })),
    tokensPerDay: fc.option(fc.integer({ min: 1, max: 6000 })),
  });
  const step = fc.oneof(
    fc.record({
      kind: fc.constant("ask" as const),
      prompt: fc.integer({ min: 0, max: 1500 }),
      answer: fc.integer({ min: 0, max: 1024 }),
    }),
    fc.record({
      kind: fc.constant("end" as const),
      which: fc.nat(),
      tokens: fc.integer({ min: 0, max: 2500 }),
      twice: fc.boolean(),
    }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 40_000 }) }),
  );
  fc.assert(
    fc.property(limits, fc.array(step, { maxLength: 120 }), (some, steps) => {
      const limiter = createKeyLimiter();
      const limited = { id: "k", limits: some };
      const running: Granted[] = [];
      const passed: number[] = [];
      let used = 0;
      let now = NOON - DAY / 2;
      for (const one of steps) {
        if (one.kind === "wait") now += one.ms;
        else if (one.kind === "end") {
          const [ended] = running.splice(one.which % Math.max(1, running.length), 1);
          if (!ended) continue;
          ended.end(one.tokens, now);
          used += one.tokens;
          if (one.twice) ended.end(one.tokens, now);
        } else {
          const result = limiter.take(limited, one, now);
          if (!result.granted) {
            // What was refused took nothing: the same is refused again for the same reason.
            expect(limiter.take(limited, one, now)).toEqual(result);
            continue;
          }
          running.push(result);
          passed.push(now);
          const { concurrency, requestsPerMinute, tokensPerDay } = some;
          expect(running.length).toBeLessThanOrEqual(concurrency ?? running.length);
          const young = passed.filter((at) => at > now - MINUTE).length;
          expect(young).toBeLessThanOrEqual(requestsPerMinute ?? young);
          if (tokensPerDay !== null) expect(used).toBeLessThan(tokensPerDay);
        }
      }
      // After the end of all, everything is there again.
      for (const one of running) one.end(0, now);
      const fresh = limiter.take(limited, { prompt: 0, answer: 0 }, now + DAY);
      expect(fresh.granted).toBe(true);
      expect(fresh.requests?.remaining).toBe(
        some.requestsPerMinute === null ? undefined : some.requestsPerMinute - 1,
      );
      expect(fresh.tokens?.remaining).toBe(some.tokensPerMinute ?? undefined);
    }),
  );
});
