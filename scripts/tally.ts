/** Runs `bun test` and counts what passed, failed and was skipped. */

import { appendFileSync } from "node:fs";

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

/** Shows what the command prints, and kills it when the time is over. */
export async function runTests(command: string[], limitMs: number): Promise<Tally> {
  const run = Bun.spawn(command, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: Math.max(1, Math.ceil(limitMs)),
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
  return readTally(output, code);
}

export function addTally(total: Tally, more: Tally): void {
  total.passed += more.passed;
  total.failed += more.failed;
  total.skipped += more.skipped;
}

/** For `.ci/run`, which adds several runs up: a line in the file that `TALLY_FILE` names. */
export function writeTally({ passed, failed, skipped }: Tally): void {
  const file = process.env["TALLY_FILE"];
  if (file) appendFileSync(file, `${passed} ${failed} ${skipped}\n`);
}

export function closingLine({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
}
