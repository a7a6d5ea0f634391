import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  randomFrom,
  recovery,
  slopePerHour,
  tally,
  verdict,
  type Expected,
  type Sample,
} from "../../../scripts/drill/tally.ts";

function sample(fields: Partial<Sample> = {}): Sample {
  return {
    beganAt: 0,
    endedAt: 100,
    kind: "whole",
    why: "",
    resumed: false,
    silenceMs: 10,
    ...fields,
  };
}

const NOTHING = { recoveryMs: null, deaths: 0, note: "" };
const STRICT: Expected = { excused: null, maxDeaths: 0 };

describe("tally", () => {
  test("counts each kind; wrong text is an error", () => {
    const row = tally(
      "d",
      [
        sample(),
        sample({ resumed: true, silenceMs: 300 }),
        sample({ kind: "error", why: "a", silenceMs: 9000 }),
        sample({ kind: "wrong", why: "b" }),
        sample({ kind: "hung", why: "c" }),
      ],
      NOTHING,
    );
    expect(row).toMatchObject({
      requests: 5,
      answers: 2,
      resumed: 1,
      errors: 2,
      hung: 1,
      silenceMs: 300,
    });
  });

  test("reasons come with their number, the most frequent first, a few at most", () => {
    const samples = ["x", "y", "y", "a", "b", "c", "d"].map((why) =>
      sample({ kind: "error", why }),
    );
    const { why } = tally("d", samples, NOTHING);
    expect(why[0]).toBe("2x error: y");
    expect(why).toHaveLength(5);
  });
});

describe("verdict", () => {
  const judge = (samples: Sample[], expected: Expected = STRICT, deaths = 0) =>
    verdict(tally("d", samples, { ...NOTHING, deaths }), samples, expected);

  test("all whole is well", () => {
    expect(judge([sample(), sample()])).toEqual([]);
  });

  test("no request at all is not", () => {
    expect(judge([])).toEqual(["no request was made"]);
  });

  test("errors, wrong texts and hung requests fail it", () => {
    expect(judge([sample({ kind: "error", why: "x" })])).toEqual(["1 errors, the first: x"]);
    expect(judge([sample({ kind: "wrong", why: "y" })])).toEqual(["1 errors, the first: y"]);
    expect(judge([sample({ kind: "hung" })])).toEqual(["1 requests hung"]);
  });

  test("errors while the head was away are excused, those before and after are not", () => {
    const expected = { excused: { from: 1000, to: 2000 }, maxDeaths: 0 };
    const error = (beganAt: number, endedAt: number) =>
      judge([sample({ kind: "error", why: "x", beganAt, endedAt })], expected);
    expect(error(900, 1000)).toEqual([]);
    expect(error(1500, 1600)).toEqual([]);
    expect(error(2000, 2600)).toEqual([]);
    expect(error(500, 999)).toHaveLength(1);
    expect(error(2001, 2600)).toHaveLength(1);
  });

  test("nothing excuses a wrong text or a hung request", () => {
    const expected = { excused: { from: 0, to: 5000 }, maxDeaths: 0 };
    expect(judge([sample({ kind: "wrong", why: "x" })], expected)).toHaveLength(1);
    expect(judge([sample({ kind: "hung" })], expected)).toHaveLength(1);
  });

  test("more deaths than allowed fail it", () => {
    expect(judge([sample()], { excused: null, maxDeaths: 2 }, 2)).toEqual([]);
    expect(judge([sample()], { excused: null, maxDeaths: 2 }, 3)).toEqual([
      "3 engines died, 2 at most should have",
    ]);
    expect(judge([sample()], { excused: null, maxDeaths: null }, 9)).toEqual([]);
  });
});

describe("recovery", () => {
  /** Frames each `everyMs` in a span. */
  const steady = (from: number, to: number, everyMs: number) =>
    Array.from({ length: Math.ceil((to - from) / everyMs) }, (_, i) => from + i * everyMs);

  test("nothing lost: at once", () => {
    expect(recovery(steady(0, 10_000, 5), { faultAt: 5000, endAt: 10_000 })).toBe(0);
  });

  test("a gap: until a second with as much as before", () => {
    const frames = [...steady(0, 5000, 5), ...steady(8000, 15_000, 5)];
    const told = recovery(frames, { faultAt: 5000, endAt: 15_000 });
    // Four fifths of the usual are enough.
    expect(told).toBeGreaterThanOrEqual(2700);
    expect(told).toBeLessThanOrEqual(3000);
  });

  test("half the throughput for the rest is no recovery", () => {
    const frames = [...steady(0, 5000, 5), ...steady(5000, 15_000, 10)];
    expect(recovery(frames, { faultAt: 5000, endAt: 15_000 })).toBeNull();
  });

  test("unknown where nothing was before, or nothing is after", () => {
    expect(recovery([], { faultAt: 5000, endAt: 9000 })).toBeNull();
    expect(recovery(steady(0, 500, 5), { faultAt: 500, endAt: 9000 })).toBeNull();
    expect(recovery(steady(0, 5000, 5), { faultAt: 5000, endAt: 5500 })).toBeNull();
  });
});

describe("slope", () => {
  test("of a line, whatever its start", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1000, max: 1000 }), fc.integer(), (perHour, start) => {
        const points = [0, 1, 2, 5, 9].map((minutes) => ({
          atMs: minutes * 60_000,
          value: start + (perHour * minutes) / 60,
        }));
        expect(slopePerHour(points)).toBeCloseTo(perHour, 3);
      }),
    );
  });

  test("of too little is 0", () => {
    expect(slopePerHour([])).toBe(0);
    expect(slopePerHour([{ atMs: 1, value: 5 }])).toBe(0);
    expect(
      slopePerHour([
        { atMs: 1, value: 5 },
        { atMs: 1, value: 9 },
      ]),
    ).toBe(0);
  });
});

test("a seed gives the same numbers again, between 0 and 1", () => {
  const draw = (seed: number) => Array.from({ length: 50 }, randomFrom(seed));
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
  expect(draw(7).every((value) => value >= 0 && value < 1)).toBeTrue();
});
