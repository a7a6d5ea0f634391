import { expect, test } from "bun:test";
import {
  admits,
  type Breaker,
  BREAKER_LIMITS,
  type BreakerEvent,
  breakerAt,
  eventOf,
  newBreaker,
  transition,
} from "../../../src/cluster/faults/breaker.ts";
import type { LeaseOutcome } from "../../../src/protocol/replica-request.ts";

const limits = BREAKER_LIMITS;

function play(
  breaker: Breaker,
  events: readonly BreakerEvent["type"][],
  { now = 0, mayOpen = true } = {},
): Breaker {
  return events.reduce(
    (before, type) =>
      transition(before, type === "sent" || type === "unknown" ? { type, lease: 1 } : { type }, {
        now,
        limits,
        mayOpen: () => mayOpen,
      }),
    breaker,
  );
}

const times = (n: number, type: BreakerEvent["type"]) => Array.from({ length: n }, () => type);

test("five failures in a row open it for 5 s, four and an answer do not", () => {
  const four = play(newBreaker(0), times(4, "failed"));
  expect(four.state).toBe("closed");
  expect(play(four, ["answered", ...times(4, "failed")]).state).toBe("closed");
  const open = play(newBreaker(0), times(5, "failed"), { now: 100 });
  expect(open).toMatchObject({ state: "open", until: 5100, openMs: 5000 });
  expect([admits(open, 5099), admits(open, 5100)]).toEqual([false, true]);
});

test("half of at least ten answers within 30 s open it; nine do not, nor older ones", () => {
  const pair = ["failed", "answered"] as const;
  const nine = [...pair, ...pair, ...pair, ...pair, "answered"] as const;
  const before = play(newBreaker(0), nine);
  expect(before.state).toBe("closed");
  expect(play(before, ["failed"], { now: 29_000 }).state).toBe("open");
  const old = play(newBreaker(0), nine);
  expect(play(old, ["failed"], { now: 31_000 }).state).toBe("closed");
});

test("half open lets one request through, and closes at its first byte", () => {
  const open = play(newBreaker(0), times(5, "failed"));
  const half = breakerAt(open, 5000);
  expect(half).toMatchObject({ state: "half_open", probe: null });
  const probed = play(half, ["sent"], { now: 5000 });
  expect([probed.state, admits(probed, 6000)]).toEqual(["half_open", false]);
  expect(play(probed, ["answered"], { now: 6000 }).state).toBe("closed");
});

test("a probe that fails opens it for twice as long, up to a minute", () => {
  let breaker = play(newBreaker(0), times(5, "failed"));
  let now = 0;
  const lengths: number[] = [];
  for (let i = 0; i < 6; i += 1) {
    if (breaker.state !== "open") throw new Error(breaker.state);
    lengths.push(breaker.openMs);
    now = breaker.until;
    breaker = play(breaker, ["sent", "failed"], { now });
  }
  expect(lengths).toEqual([5000, 10_000, 20_000, 40_000, 60_000, 60_000]);
});

test("a probe that tells nothing leaves room for the next one", () => {
  const half = play(newBreaker(0), [...times(5, "failed")]);
  const probed = play(half, ["sent", "unknown"], { now: 5000 });
  expect([probed.state, admits(probed, 5000)]).toEqual(["half_open", true]);
});

test("it stays closed where it may not open", () => {
  expect(play(newBreaker(0), times(50, "failed"), { mayOpen: false }).state).toBe("closed");
});

test("a crash opens it at once, a new process closes it at once", () => {
  const open = play(newBreaker(0), ["crashed"]);
  expect(open).toMatchObject({ state: "open", openMs: 5000 });
  expect(play(open, ["renewed"]).state).toBe("closed");
});

test("what was sent before it opened does not close it", () => {
  const open = play(newBreaker(0), times(5, "failed"));
  expect(play(open, ["answered", "failed"], { now: 10 })).toEqual(open);
});

test("an answer is an answer, also an error; who leaves tells nothing", () => {
  const outcomes: Record<ReturnType<typeof eventOf>, LeaseOutcome[]> = {
    answered: ["ok", "rejected", "busy", "auth", "engine_error"],
    failed: ["unreachable", "broken", "bad_gateway"],
    unknown: ["rescheduled", "slow_client", "client_gone"],
  };
  expect(outcomes.answered.map(eventOf)).toEqual(Array(5).fill("answered"));
  expect(outcomes.failed.map(eventOf)).toEqual(Array(3).fill("failed"));
  expect(outcomes.unknown.map(eventOf)).toEqual(Array(3).fill("unknown"));
});
