/** Every check and test, one after the other, and the line that sums them up. */

import { resolve } from "node:path";
import { addTally, closingLine, runTests, type Tally, writeTally } from "./tally.ts";

/** The whole run takes minutes; one that takes so long hangs. */
const TEST_LIMIT_MS = 15 * 60_000;

const CHECKS: Array<[string, string]> = [
  ["format", "bun fmt --check"],
  ["lint", "bun node_modules/oxlint/bin/oxlint --deny-warnings src test scripts"],
  ["types", "bun check"],
  ["build", "bun scripts/build.ts"],
];
const TESTS = "bun test --parallel --timeout 30000 --only-failures";

async function main(filters: readonly string[]): Promise<number> {
  process.chdir(resolve(import.meta.dir, ".."));
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };
  for (const [name, command] of CHECKS) {
    process.stdout.write(`== ${name}: ${command}\n`);
    const words = command.split(" ");
    const code = await Bun.spawn(words, { stdio: ["ignore", "inherit", "inherit"] }).exited;
    if (code === 0) total.passed += 1;
    else total.failed += 1;
  }
  const command = [...TESTS.split(" "), ...filters];
  process.stdout.write(`== tests: ${command.join(" ")}\n`);
  addTally(total, await runTests(command, TEST_LIMIT_MS));
  writeTally(total);
  process.stdout.write(`\n${closingLine(total)}\n`);
  return total.failed === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
