import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  contextText,
  countText,
  memoryText,
  percentText,
  rateText,
  timeText,
  tokenRateText,
} from "../../../src/top/text/figures.ts";

test.each<[number | null, string, string, string]>([
  [null, "-", "-", "-"],
  [Number.NaN, "-", "-", "-"],
  [0, "0", "0.0", "0"],
  [0.04, "0", "0.0", "0.0"],
  [5, "5", "5.0", "5.0"],
  [23.4, "23", "23.4", "23"],
  [99.96, "100", "100", "0.1k"],
  [204, "204", "204", "0.2k"],
  [999, "999", "999", "1.0k"],
  [999.6, "1.0k", "1.0k", "1.0k"],
  [1234, "1.2k", "1.2k", "1.2k"],
  [17_800, "18k", "17.8k", "17.8k"],
  [291_000, "291k", "291k", "291k"],
  [2_400_000, "2.4M", "2.4M", "2.4M"],
])("%p", (value, count, rate, tokens) => {
  expect([countText(value), rateText(value), tokenRateText(value)]).toEqual([count, rate, tokens]);
});

test.each<[number | null, string]>([
  [null, "-"],
  [0, "0ms"],
  [88.4, "88ms"],
  [999.4, "999ms"],
  [999.6, "1.00s"],
  [1210, "1.21s"],
  [48_200, "48.2s"],
  [59_960, "1m00"],
  [260_000, "4m20"],
  [3_599_900, "1h00"],
  [11_040_000, "3h04"],
  [273_600_000, "3d04"],
  [20_000 * 86_400_000, "20000d"],
])("a time of %p ms", (ms, text) => {
  expect(timeText(ms)).toBe(text);
});

test("memory and shares", () => {
  const g = 1024 ** 3;
  expect(memoryText(80 * g, 141 * g)).toBe("80/141G");
  expect(memoryText(0.5 * g, 24 * g)).toBe("0.5/24G");
  expect(memoryText(null, 141 * g)).toBe("-/141G");
  expect(memoryText(null, null)).toBe("-");
  expect([null, 0, 93.6, 100, 1e9].map(percentText)).toEqual(["-%", "0%", "94%", "100%", "999%"]);
});

test("no figure is wider than its column", () => {
  const value = fc.double({ min: 0, max: 1e14, noNaN: true });
  fc.assert(
    fc.property(value, (n) => {
      expect(countText(n).length).toBeLessThanOrEqual(4);
      expect(rateText(n).length).toBeLessThanOrEqual(5);
      expect(tokenRateText(n).length).toBeLessThanOrEqual(5);
      expect(timeText(Math.min(n, 8e12)).length).toBeLessThanOrEqual(6);
    }),
  );
});

test("a context is in units of 1,024, as models are named for it", () => {
  expect([null, 512, 4096, 32_768, 131_072].map(contextText)).toEqual([
    "-",
    "512",
    "4k",
    "32k",
    "128k",
  ]);
});
