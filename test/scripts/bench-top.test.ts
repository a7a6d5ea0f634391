import { expect, test } from "bun:test";
import { measurePty } from "../../scripts/bench/top/pty.ts";
import { readTopOptions } from "../../scripts/bench/top/top.ts";

test("options are read, and what is none is told", () => {
  expect(readTopOptions([])).toEqual({ quick: false, binary: null, workers: [8, 200, 1000] });
  expect(readTopOptions(["--quick", "--workers", "3"])).toMatchObject({
    quick: true,
    workers: [3],
  });
  for (const words of [["--workers", "0"], ["--workers", "x"], ["--slow"], ["8"]]) {
    expect(() => readTopOptions(words)).toThrow();
  }
});

test("bytes are counted, keys are timed, and the program is ended", async () => {
  const figures = await measurePty({
    argv: [
      "sh",
      "-c",
      "stty -echo; printf '\\033[2Jhello\\033[2J'; while read -r x; do echo $x; done",
    ],
    columns: 80,
    rows: 24,
    warmUpMs: 100,
    windowMs: 100,
    presses: ["a\n", "b\n"],
    signal: new AbortController().signal,
  });
  expect(figures.bytesPerS).toBe(0);
  expect(figures.clears).toBe(1);
  expect(figures.firstPaintMs).toBeGreaterThan(0);
  expect(figures.keyP95Ms).toBeLessThan(1000);
  expect(figures.residentMb).toBeGreaterThan(0);
});

test("an end from outside ends the wait", async () => {
  const problem = await measurePty({
    argv: ["cat"],
    columns: 80,
    rows: 24,
    warmUpMs: 60_000,
    windowMs: 0,
    signal: AbortSignal.timeout(50),
  }).then(
    () => null,
    (error: unknown) => error,
  );
  expect(problem).not.toBeNull();
});
