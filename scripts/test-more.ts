/**
 * The suites of `test/more`, one after the other, with what each took.
 *
 * A suite is a folder with a `suite.ts`, which `bun test` runs. A `package.json` and `bun.lock` in
 * that folder pin what only this suite uses.
 */

import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { addTally, closingLine, runTests, type Tally, writeTally } from "./tally.ts";

const ROOT = resolve(import.meta.dir, "..");
const SUITES = join(ROOT, "test/more");
const SUITE_LIMIT_MS = 5 * 60_000;
const TOTAL_LIMIT_MS = 25 * 60_000;
/** As many as a reader looks at. */
const SLOWEST = 5;

async function main(wanted: readonly string[]): Promise<number> {
  process.chdir(ROOT);
  const all = readdirSync(SUITES)
    .filter((name) => existsSync(join(SUITES, name, "suite.ts")))
    .sort();
  const unknown = wanted.filter((name) => !all.includes(name));
  if (unknown.length > 0) {
    process.stderr.write(`error: no suite ${unknown.join(", ")}; there are: ${all.join(", ")}\n`);
    return 2;
  }
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };
  const times: { name: string; seconds: number }[] = [];
  const deadline = performance.now() + TOTAL_LIMIT_MS;
  for (const name of all.filter((one) => wanted.length === 0 || wanted.includes(one))) {
    const began = performance.now();
    process.stdout.write(`== ${name}\n`);
    addTally(total, await runSuite(name, Math.min(SUITE_LIMIT_MS, deadline - began)));
    times.push({ name, seconds: (performance.now() - began) / 1000 });
  }
  times.sort((a, b) => b.seconds - a.seconds);
  process.stdout.write("\nslowest suites:\n");
  for (const { name, seconds } of times.slice(0, SLOWEST))
    process.stdout.write(`  ${seconds.toFixed(1).padStart(6)} s  ${name}\n`);
  writeTally(total);
  process.stdout.write(`\n${closingLine(total)}\n`);
  return total.failed === 0 ? 0 : 1;
}

async function runSuite(name: string, limitMs: number): Promise<Tally> {
  const failure = (why: string): Tally => {
    process.stdout.write(`(fail) ${name}: ${why}\n`);
    return { passed: 0, failed: 1, skipped: 0 };
  };
  if (limitMs <= 0) return failure("no time is left for it");
  const began = performance.now();
  if (existsSync(join(SUITES, name, "package.json"))) {
    const install = ["bun", "install", "--frozen-lockfile", "--cwd", join(SUITES, name)];
    const child = Bun.spawn(install, {
      stdio: ["ignore", "inherit", "inherit"],
      timeout: Math.ceil(limitMs),
    });
    if ((await child.exited) !== 0) return failure("its packages cannot be installed");
  }
  const left = limitMs - (performance.now() - began);
  return runTests(["bun", "test", "--timeout", "60000", `./test/more/${name}/suite.ts`], left);
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
