import { expect, test } from "bun:test";
import fc from "fast-check";
import { createBodyBudget } from "../../../src/proxy/request/body.ts";
import { keep } from "../../../src/proxy/resume/memory.ts";

const sent = Buffer.from("the request");

test("nothing is taken before the first chunk, and everything is given back", () => {
  const budget = createBodyBudget(1_000_000);
  const kept = keep(sent, { budget, maxAnswerBytes: 100_000 });
  expect(budget.heldBytes).toBe(0);
  expect(kept.take()).toBeNull();
  kept.add(Buffer.from("one"));
  kept.add(Buffer.from("two"));
  expect(budget.heldBytes).toBeGreaterThan(0);
  expect(Buffer.from(kept.take()?.answer ?? []).toString()).toBe("onetwo");
  expect(kept.take()?.sent).toBe(sent);
  kept.free();
  expect(budget.heldBytes).toBe(0);
  kept.add(Buffer.from("three"));
  kept.free();
  expect(kept.take()).toBeNull();
  expect(budget.heldBytes).toBe(0);
});

test("an answer of any chunks is kept whole or not at all, within both limits", () => {
  const chunks = fc.array(fc.uint8Array({ maxLength: 3000 }), { minLength: 1, maxLength: 40 });
  const limit = fc.integer({ min: 1, max: 60_000 });
  fc.assert(
    fc.property(chunks, limit, limit, (all, maxAnswerBytes, maxBytes) => {
      const budget = createBodyBudget(maxBytes);
      const kept = keep(sent, { budget, maxAnswerBytes });
      for (const chunk of all) {
        kept.add(chunk);
        expect(budget.heldBytes).toBeLessThanOrEqual(maxBytes);
      }
      const whole = Buffer.concat(all);
      const found = kept.take();
      if (found) expect(Buffer.compare(found.answer, whole)).toBe(0);
      else expect(budget.heldBytes).toBe(0);
      if (whole.length > maxAnswerBytes) expect(found).toBeNull();
      kept.free();
      expect(budget.heldBytes).toBe(0);
    }),
  );
});
