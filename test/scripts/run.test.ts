import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { runProcess } from "../helpers/process.ts";

const SCRIPTS = resolve(import.meta.dir, "../../scripts");
const run = (script: string, ...args: string[]) =>
  runProcess([resolve(SCRIPTS, script), ...args], { timeoutMs: 60_000 });

test("run.sh runs a script by its name, with its arguments and its exit code", async () => {
  const { code, stderr } = await run("run.sh", "fuzz", "--minuets", "1");
  expect([code, stderr.includes("--minuets")]).toEqual([2, true]);
});

test.each([[], ["nothing-of-this-name"], ["../src/main"], ["--help"]])(
  "run.sh %s says which scripts there are",
  async (...args) => {
    const { code, stdout, stderr } = await run("run.sh", ...args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toMatch(/^usage: scripts\/run\.sh .*\n(  [a-z0-9-]+\n)+$/);
    expect(stderr).toContain("  bench\n");
  },
);

test("test-more.sh says which suites there are", async () => {
  const { code, stderr } = await run("test-more.sh", "nothing-of-this-name");
  expect([code, stderr]).toEqual([
    2,
    "error: no suite nothing-of-this-name; there are: nginx, openai\n",
  ]);
});
