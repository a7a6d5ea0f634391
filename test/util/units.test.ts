import { expect, test } from "bun:test";
import { cleanLine } from "../../src/util/text.ts";
import { formatBytes, formatDuration, parseDuration } from "../../src/util/units.ts";

test("durations need a unit", () => {
  const read = ["0", "500ms", "1.5s", "10m", "2h", "30d", "10", "-1s", "1 s", "1w", "s", ""];
  expect(read.map(parseDuration)).toEqual([
    0,
    500,
    1500,
    600_000,
    7_200_000,
    2_592_000_000,
    null,
    null,
    null,
    null,
    null,
    null,
  ]);
});

test("durations read as a person says them", () => {
  const ms = [0, 300, 9_940, 9_960, 42_000, 260_000, 11_040_000, 273_600_000];
  expect(ms.map(formatDuration)).toEqual([
    "0.0s",
    "0.3s",
    "9.9s",
    "10s",
    "42s",
    "4m20s",
    "3h04m",
    "3d04h",
  ]);
});

test("sizes are binary", () => {
  expect([0, 512, 1536, 149_250_000_000].map(formatBytes)).toEqual([
    "0 B",
    "512 B",
    "1.5 KiB",
    "139 GiB",
  ]);
});

test("text from outside cannot move the cursor, ring, or grow", () => {
  expect(cleanLine("a\u001b[31mred\u001b[0m\u0007\r\nb")).toBe("ared   b");
  expect(cleanLine("\u001b]0;title\u0007name")).toBe("name");
  expect(cleanLine("abc\u202edef")).toBe("abc def");
  expect(cleanLine("x".repeat(1_000_000), 10)).toBe("xxxxxxxxx…");
});
