import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  countTokens,
  decodeTokens,
  embeddingOf,
  encodeTokens,
  MARK,
  originOf,
  textOf,
  tokenAt,
} from "../../../src/sim/core/text.ts";

describe("tokens", () => {
  test("four bytes each, the last one may be shorter", () => {
    expect(countTokens("")).toBe(0);
    expect(countTokens("a")).toBe(1);
    expect(countTokens("abcd")).toBe(1);
    expect(countTokens("abcde")).toBe(2);
    expect(countTokens("\u{1f600}")).toBe(1);
    expect(countTokens("ää")).toBe(1);
  });

  test("ids give back the exact text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), (text) => {
        const ids = encodeTokens(text);
        expect(ids).toHaveLength(countTokens(text));
        expect(decodeTokens(ids)).toBe(text.toWellFormed());
      }),
    );
  });

  test("short tokens differ from long ones with the same bytes", () => {
    expect(encodeTokens("\0")).not.toEqual(encodeTokens("\0\0"));
    expect(encodeTokens("\0\0\0")).not.toEqual(encodeTokens("\0\0\0\0"));
  });

  test("ids that no token has become U+FFFD", () => {
    expect(decodeTokens([2 ** 53 - 1])).toBe("\ufffd");
    expect(decodeTokens([-1])).toBe("\ufffd");
  });

  test("a byte order mark is text like any other", () => {
    expect(decodeTokens(encodeTokens("\ufeffx"))).toBe("\ufeffx");
  });
});

describe("the answer", () => {
  const origin = originOf("m", "what?");

  test("is a fixed function of model, prompt and position", () => {
    expect(textOf(origin, 8)).toBe(textOf(originOf("m", "what?"), 8));
    expect(textOf(origin, 40)).not.toBe(textOf(originOf("m2", "what?"), 40));
    expect(textOf(origin, 40)).not.toBe(textOf(originOf("m", "what!"), 40));
    expect(textOf(originOf("m", "what?", 1), 40)).not.toBe(textOf(origin, 40));
    // The words themselves: whoever changes them changes every recorded answer.
    expect(textOf(originOf("m", "p"), 8)).toMatchInlineSnapshot(
      `"[simulated] zimatal dunaledaleda"`,
    );
  });

  test("says that it is simulated, and has four bytes a token", () => {
    expect(textOf(origin, 3)).toBe(MARK);
    for (let i = 0; i < 2000; i++) expect(tokenAt(origin, i)).toMatch(/^[a-z[\] ]{4}$/);
  });

  test("goes on where a prompt breaks it off", () => {
    const whole = textOf(origin, 30);
    for (const begun of [1, 2, 3, 4, 17, 29]) {
      const again = originOf("m", `what?${whole.slice(0, begun * 4)}`);
      expect(again).toEqual({ seed: origin.seed, position: begun });
      expect(textOf(again, 30 - begun)).toBe(whole.slice(begun * 4));
    }
  });

  test("does not go on from a text that is not its own", () => {
    expect(originOf("m", "what?[simulated] nothing of mine").position).toBe(0);
    expect(originOf("other", `what?${textOf(origin, 9)}`).position).toBe(0);
    expect(originOf("m", `what?${textOf(origin, 9)} and then?`).position).toBe(0);
  });
});

test("embeddings are unit vectors that depend on model and text", () => {
  const vector = embeddingOf("m", "text", 256);
  expect(vector).toHaveLength(256);
  expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
  expect(embeddingOf("m", "text", 256)).toEqual(vector);
  expect(embeddingOf("m", "texts", 256)).not.toEqual(vector);
  expect(embeddingOf("n", "text", 256)).not.toEqual(vector);
});
