import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readTally } from "../../scripts/tally.ts";
import { runProcess } from "../helpers/process.ts";

test("the counts of a run", () => {
  const output =
    "a.test.ts:\n\n 12 pass\n 1 skip\n 2 todo\n 0 fail\n 3 expect() calls\nRan 15 tests";
  expect(readTally(output, 0)).toEqual({ passed: 12, failed: 0, skipped: 3 });
});

test("colours do not hide them, and the last summary counts", () => {
  const output =
    " 1 pass\n 9 fail\n\u001b[0m\u001b[32m 5 pass\u001b[0m\n\u001b[0m\u001b[31m 2 fail\u001b[0m\n";
  expect(readTally(output, 1)).toEqual({ passed: 5, failed: 2, skipped: 0 });
});

test("whatever went wrong is a failure", () => {
  const fine = " 5 pass\n 0 fail\n";
  expect(readTally(fine, 0).failed).toBe(0);
  expect(readTally(fine, 1).failed).toBe(1);
  expect(readTally(fine, 137).failed).toBe(1);
  expect(readTally("", 0).failed).toBe(1);
  expect(readTally(" 5 pass\n", 0).failed).toBe(1);
});

test("the real runner writes what is read here", async () => {
  const place = mkdtempSync(join(tmpdir(), "llmnode-tally-"));
  const outcome = (how: string, value: number) =>
    `test${how}("t", () => expect(1).toBe(${value}));`;
  const tests = [
    ["", 1],
    ["", 1],
    [".skip", 1],
    [".todo", 2],
    ["", 2],
  ] as const;
  const lines = tests.map(([how, value]) => outcome(how, value));
  try {
    const head = 'import { expect, test } from "bun:test";';
    await Bun.write(join(place, "some.test.ts"), [head, ...lines].join("\n"));
    // A second file makes it run in parallel.
    await Bun.write(join(place, "other.test.ts"), [head, outcome("", 1)].join("\n"));
    const { code, stdout, stderr } = await runProcess(
      [process.execPath, "test", "--parallel", "--only-failures"],
      { cwd: place },
    );
    expect(readTally(stdout + stderr, code)).toEqual({ passed: 3, failed: 1, skipped: 2 });
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
});
