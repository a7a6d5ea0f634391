import { afterEach, expect, test } from "bun:test";
import { createPacer, type Pacer, type Step } from "../../../src/sim/core/pacer.ts";

const pacers: Pacer[] = [];
afterEach(() => {
  for (const pacer of pacers.splice(0)) pacer.stop();
});

function pacer(): Pacer {
  const made = createPacer();
  pacers.push(made);
  return made;
}

test("runs steps in the order of their times and again when they ask for it", async () => {
  const clock = pacer();
  const seen: string[] = [];
  const done = Promise.withResolvers<void>();
  const now = performance.now();
  let left = 3;
  clock.start(() => {
    seen.push("late");
    done.resolve();
    return null;
  }, now + 60);
  clock.start((at) => {
    seen.push("often");
    left -= 1;
    return left > 0 ? at + 5 : null;
  }, now + 5);
  clock.start(() => {
    seen.push("soon");
    return null;
  }, now - 5);
  await done.promise;
  expect(seen).toEqual(["soon", "often", "often", "often", "late"]);
});

test("a cancelled step never runs, not even when one of its own millisecond cancels it", async () => {
  const clock = pacer();
  const seen: string[] = [];
  const done = Promise.withResolvers<void>();
  const at = performance.now() + 10;
  const second: Step = () => {
    seen.push("second");
    return null;
  };
  clock.start(() => {
    clock.cancel(second);
    seen.push("first");
    return null;
  }, at);
  clock.start(second, at);
  clock.start(() => {
    done.resolve();
    return null;
  }, at + 20);
  clock.cancel(() => null);
  await done.promise;
  expect(seen).toEqual(["first"]);
});

test("stop forgets everything and leaves no timer", async () => {
  const clock = pacer();
  let ran = 0;
  const step = () => {
    ran += 1;
    return null;
  };
  clock.start(step, 0);
  clock.start(() => step(), performance.now() + 5);
  clock.stop();
  await Bun.sleep(20);
  expect(ran).toBe(0);
});
