import { expect, test } from "bun:test";
import fc from "fast-check";
import { editDistance, suggest } from "../../../src/cli/base/suggest.ts";

const COMMANDS = ["head", "join", "status", "sim", "version", "help"];

test.each([
  ["stauts", "status"],
  ["statu", "status"],
  ["jion", "join"],
  ["joi", "join"],
  ["joinn", "join"],
  ["verson", "version"],
  ["hed", "head"],
  ["x", null],
  ["xy", null],
  ["", null],
  ["deploy", null],
])("%p suggests %p", (word, expected) => {
  expect(suggest(word, COMMANDS)).toBe(expected);
});

test("a very long word is not compared at all", () => {
  expect(suggest("s".repeat(10_000_000), COMMANDS)).toBeNull();
});

test("the distance is a metric that grows by one with each edit", () => {
  const word = fc.string({ maxLength: 12 });
  fc.assert(
    fc.property(word, word, word, (a, b, c) => {
      expect(editDistance(a, a)).toBe(0);
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c));
      expect(editDistance(a, `${a}x`)).toBe(1);
    }),
  );
});
