import { expect, test } from "bun:test";
import { newBudget, noteRequest, takeRetry } from "../../../src/cluster/faults/budget.ts";

function taken(budget: ReturnType<typeof newBudget>, now: number): number {
  let count = 0;
  while (takeRetry(budget, now)) count += 1;
  return count;
}

test("ten repeats within ten seconds are always allowed", () => {
  const budget = newBudget();
  expect(taken(budget, 500)).toBe(10);
  expect(takeRetry(budget, 9999)).toBe(false);
  expect(taken(budget, 10_500)).toBe(10);
});

test("beyond that a fifth of the requests of the last ten seconds", () => {
  const budget = newBudget();
  for (let i = 0; i < 100; i += 1) noteRequest(budget, 1000 + 50 * i);
  expect(taken(budget, 6000)).toBe(20);
  // The requests of the first second no longer count, the repeats still do.
  expect(taken(budget, 11_500)).toBe(0);
  expect(taken(budget, 30_000)).toBe(10);
});
