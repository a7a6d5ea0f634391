/** Every check and test, one after the other, and the line that sums them up. */

import { resolve } from "node:path";

/** The whole run takes minutes; one that takes so long hangs. */
const TEST_LIMIT_MS = 15 * 60_000;

export interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * The counts of `bun test`'s closing lines. A run without them, or with a bad exit code and no
 * failure in them, counts as one failure: nothing that went wrong may look like success.
 */
export function readTally(output: string, exitCode: number): Tally {
  const plain = output.replace(/\u001b\[[0-9;]*m/g, "");
  const last = (word: string) => {
    const found = [...plain.matchAll(new RegExp(`^ +(\\d+) ${word}s?$`, "gm"))].at(-1);
    return found === undefined ? null : Number(found[1]);
  };
  const failed = last("fail");
  const known = failed ?? 0;
  const wrong = exitCode !== 0 || failed === null;
  return {
    passed: last("pass") ?? 0,
    failed: known === 0 && wrong ? 1 : known,
    skipped: (last("skip") ?? 0) + (last("todo") ?? 0),
  };
}

async function main(filters: readonly string[]): Promise<number> {
  process.chdir(resolve(import.meta.dir, ".."));
  const total: Tally = { passed: 0, failed: 0, skipped: 0 };
  const checks: Array<[string, string[]]> = [
    ["format", ["bun", "fmt", "--check"]],
    [
      "lint",
      ["bun", "node_modules/oxlint/bin/oxlint", "--deny-warnings", "src", "test", "scripts"],
    ],
    ["types", ["bun", "check"]],
    ["build", ["bun", "scripts/build.ts"]],
  ];
  for (const [name, command] of checks) {
    process.stdout.write(`== ${name}: ${command.join(" ")}\n`);
    const code = await Bun.spawn(command, { stdio: ["ignore", "inherit", "inherit"] }).exited;
    if (code === 0) total.passed += 1;
    else total.failed += 1;
  }
  const command = [
    "bun",
    "test",
    "--parallel",
    "--timeout",
    "30000",
    "--only-failures",
    ...filters,
  ];
  process.stdout.write(`== tests: ${command.join(" ")}\n`);
  const run = Bun.spawn(command, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TEST_LIMIT_MS,
    killSignal: "SIGKILL",
  });
  let output = "";
  const show = async (stream: ReadableStream<Uint8Array>) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const text = decoder.decode(chunk, { stream: true });
      process.stdout.write(text);
      output = (output + text).slice(-65_536);
    }
  };
  const [code] = await Promise.all([run.exited, show(run.stdout), show(run.stderr)]);
  const tests = readTally(output, code);
  total.passed += tests.passed;
  total.failed += tests.failed;
  total.skipped += tests.skipped;
  const skipped = total.skipped === 0 ? "" : `, ${total.skipped} skipped`;
  process.stdout.write(`\n${total.passed} passed, ${total.failed} failed${skipped}\n`);
  return total.failed === 0 ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
