import { expect, test } from "bun:test";
import fc from "fast-check";
import { globMatcher } from "../../src/util/glob.ts";

test.each([
  ["m", "m", true],
  ["m", "mm", false],
  ["*", "", true],
  ["*", "Qwen/Qwen3-8B", true],
  ["Qwen/*", "Qwen/Qwen3-8B", true],
  ["Qwen/*", "qwen/Qwen3-8B", false],
  ["*8B", "Qwen/Qwen3-8B", true],
  ["*-8B", "Qwen/Qwen3-8B-fp8", false],
  ["a*b*c", "abc", true],
  ["a*b*c", "acb", false],
  ["ab*ba", "aba", false],
  ["a.c", "abc", false],
  ["**a**", "bab", true],
  ["", "", true],
  ["", "a", false],
])("%p on %p: %p", (pattern, name, expected) => {
  expect(globMatcher(pattern)(name)).toBe(expected);
});

test("it is the regular expression that one would write", () => {
  const text = fc.string({ unit: fc.constantFrom("a", "b", "*", "."), maxLength: 8 });
  fc.assert(
    fc.property(text, text, (pattern, name) => {
      const escaped = pattern.replaceAll(".", "\\.").replaceAll("*", ".*");
      expect(globMatcher(pattern)(name)).toBe(new RegExp(`^${escaped}$`).test(name));
    }),
  );
});
