import { expect, test } from "bun:test";
import { growthOf } from "../../../scripts/drill/soak.ts";

const MIB = 1024 ** 2;

/** A reading a minute. */
function readings(minutes: number, mib: (minute: number) => number) {
  return Array.from({ length: minutes + 1 }, (_, minute) => ({
    atMs: minute * 60_000,
    headBytes: mib(minute) * MIB,
  }));
}

test("a head that warms up and then stays is flat", () => {
  const { bytes } = growthOf(readings(60, (minute) => 100 + Math.min(minute, 10) * 10));
  expect(Math.abs(bytes)).toBeLessThan(MIB);
});

test("a head that wavers is flat", () => {
  const { bytes } = growthOf(readings(60, (minute) => 200 + (minute % 5) * 4));
  expect(Math.abs(bytes)).toBeLessThan(4 * MIB);
});

test("a head that grows is told by how much", () => {
  const { bytes, bytesPerHour } = growthOf(readings(60, (minute) => 100 + minute));
  expect(bytesPerHour / MIB).toBeCloseTo(60, 3);
  expect(bytes / MIB).toBeCloseTo(45, 3);
});

test("nothing measured is no growth", () => {
  expect(growthOf([])).toEqual({ bytes: 0, bytesPerHour: 0 });
});
