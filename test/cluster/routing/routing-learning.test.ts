import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  createLoadTime,
  createPrefillSpeed,
  createTokenRatio,
} from "../../../src/cluster/routing/learning.ts";
import { createRoutingMemory } from "../../../src/cluster/routing/memory.ts";
import { scoreOf } from "../../../src/cluster/routing/score.ts";
import type { Lease } from "../../../src/cluster/state/state.ts";

test("the speed of an engine is learnt from long prompts, without what short ones take", () => {
  const speed = createPrefillSpeed();
  expect(speed.tokensPerS).toBe(15_000);
  for (let i = 0; i < 50; i += 1) {
    speed.observe(100, 500);
    speed.observe(5000, 500 + 2500);
  }
  expect(speed.tokensPerS).toBeWithin(1990, 2010);
});

test("one slow first answer does not condemn an engine", () => {
  const speed = createPrefillSpeed();
  speed.observe(2000, 120_000);
  expect(speed.tokensPerS).toBeGreaterThan(5000);
  for (let i = 0; i < 20; i += 1) speed.observe(3000, 200);
  expect(speed.tokensPerS).toBeWithin(14_500, 15_500);
});

test.each([
  ["a prompt of middling length", 1999, 100],
  ["no time at all", 5000, 0],
  ["a clock that went back", 5000, -5],
  ["no number", Number.NaN, 100],
  ["a negative miss", -1, 100],
])("%s teaches nothing", (_, tokens, ms) => {
  const speed = createPrefillSpeed();
  speed.observe(tokens, ms);
  expect(speed.tokensPerS).toBe(15_000);
});

test("whatever is observed, what is learnt stays within its bounds", () => {
  const figure = fc.oneof(fc.double(), fc.integer({ min: -10, max: 1_000_000 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(figure, figure), { maxLength: 50 }), (seen) => {
      const [speed, ratio, load] = [createPrefillSpeed(), createTokenRatio(), createLoadTime()];
      for (const [a, b] of seen) {
        speed.observe(a, b);
        ratio.observe(a, b);
        load.observe(a);
      }
      expect(speed.tokensPerS).toBeWithin(500, 200_001);
      expect(ratio.bytesPerToken).toBeWithin(0.5, 64.1);
      expect(load.seconds).toBeWithin(0.1, 3601);
    }),
  );
});

test("bytes for a token follow what engines count, long prompts before short ones", () => {
  const ratio = createTokenRatio();
  expect(ratio.bytesPerToken).toBe(4);
  ratio.observe(10, 30);
  expect(ratio.bytesPerToken).toBeWithin(3.7, 4);
  for (let i = 0; i < 30; i += 1) ratio.observe(20_000, 10_000);
  expect(ratio.bytesPerToken).toBeWithin(1.99, 2.1);
});

test("the time of a load begins at a guess and follows what is seen", () => {
  const load = createLoadTime();
  expect(load.seconds).toBe(30);
  for (let i = 0; i < 10; i += 1) load.observe(120_000);
  expect(load.seconds).toBeWithin(119, 121);
});

const IDLE = {
  pendingTokens: 0,
  active: 0,
  tokensPerS: 10_000,
  promptTokens: 4000,
  hitTokens: 0,
  mostHitTokens: 0,
  loadS: 0,
};

test.each([
  ["idle, nothing cached", {}, 0.4],
  ["all cached", { hitTokens: 4000, mostHitTokens: 4000 }, 0],
  ["another has half of it", { mostHitTokens: 2000 }, 0.4 + 1.6],
  ["a long prompt before it", { pendingTokens: 20_000 }, 2.4],
  ["five requests run", { active: 5 }, 0.9],
  ["a model to load", { loadS: 30 }, 30.4],
  ["half as fast", { tokensPerS: 5000 }, 0.8],
])("score: %s", (_, more, seconds) => {
  expect(scoreOf({ ...IDLE, ...more }, { g: 0.1, k: 8 })).toBeCloseTo(seconds, 9);
});

function lease(engineKey: string, model = "m", engineRun = "r"): Lease {
  return { engineKey, engineRun, model } as Lease;
}

test("engines and models that were not used for the longest time are forgotten", () => {
  const memory = createRoutingMemory(0, { maxEngines: 2, maxModels: 2 });
  for (const key of ["a", "b", "a", "c"]) memory.use(lease(key, `model of ${key}`), 0);
  expect(["a", "b", "c"].map((key) => memory.engine(key) !== undefined)).toEqual([
    true,
    false,
    true,
  ]);
  expect([...memory.affinity().keys()]).toEqual(["model of a", "model of c"]);
});

test("a holder is the same while its engine runs, and another in its next run", () => {
  const memory = createRoutingMemory(0);
  const first = memory.holderFor(lease("a"), 0);
  expect(memory.holderFor(lease("a"), 0)).toBe(first);
  expect(memory.holderFor(lease("a", "n"), 0)).not.toBe(first);
  const next = memory.holderFor(lease("a", "m", "r2"), 0);
  expect(next).not.toBe(first);
  expect([memory.holderStill(lease("a")), memory.holderStill(lease("a", "m", "r2"))]).toEqual([
    0,
    next,
  ]);
});
