/** The compiled binary for end-to-end tests, built when it is missing or older than its sources. */

import { resolve } from "node:path";
import { runProcess } from "./process.ts";

const ROOT = resolve(import.meta.dir, "../..");

/**
 * Path of the binary. Any number of test processes may ask at once: one of them builds, the others
 * wait. `LLMNODE_TEST_BINARY` names another binary to test instead.
 */
export async function binaryPath(): Promise<string> {
  const given = process.env["LLMNODE_TEST_BINARY"];
  if (given !== undefined && given !== "") return resolve(given);
  const build = await runProcess(
    [process.execPath, resolve(ROOT, "scripts/build.ts"), "--if-stale"],
    { cwd: ROOT, timeoutMs: 120_000 },
  );
  if (build.code !== 0) throw new Error(`the binary cannot be built:\n${build.stderr}`);
  return resolve(ROOT, "dist/llmnode");
}
