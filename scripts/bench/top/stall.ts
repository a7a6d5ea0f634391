/** What `llmnode top` does while its terminal takes nothing, and how soon it is right again. */

import { join } from "node:path";
import { sleep } from "./pty.ts";

export interface StallOptions {
  binary: string;
  workplace: string;
  stallMs: number;
  signal: AbortSignal;
}

export interface StallFigures {
  stoppedMs: number;
  /** Of what the head made it ask while its terminal was stopped. */
  answers: number;
  missed: number;
  slowestMs: number;
  /** From when the terminal took again until it had the clock of now; null: never. */
  rightAfterMs: number | null;
}

const COLUMNS = "160";
const ROWS = "45";
const SETTLE_MS = 4000;
const RIGHT_LIMIT_MS = 5000;
/** The clock on the screen is of whole seconds, and of the head's last frame. */
const CLOCK_SLACK_MS = 2500;
const DAY_MS = 86_400_000;

export async function measureStall(options: StallOptions): Promise<StallFigures> {
  const { binary, stallMs, signal } = options;
  await using head = start(options, ["head.ts", "200", "flipping"]);
  const url = await head.found(/^head at (\S+)/, signal);
  await using reader = start(options, [
    "reader.ts",
    ...[COLUMNS, ROWS, binary, "top", "--head", url],
  ]);
  await reader.found(/^screen (\S+)/, signal);
  await sleep(SETTLE_MS, signal);
  const from = head.lines.length;
  reader.kill("SIGSTOP");
  await sleep(stallMs, signal);
  const answers = head.lines.slice(from);
  const seen = reader.lines.length;
  const wentOn = performance.now();
  reader.kill("SIGCONT");
  const waits = answers.map((line) => Number(/after ([\d.]+)/.exec(line)?.[1] ?? Number.NaN));
  const known = waits.filter((wait) => !Number.isNaN(wait));
  return {
    stoppedMs: stallMs,
    answers: known.length,
    missed: waits.length - known.length,
    slowestMs: Math.max(0, ...known),
    rightAfterMs: await untilRight(reader.lines, { from: seen, wentOn, signal }),
  };
}

/** A process of this folder, line by line. */
function start({ workplace }: StallOptions, [script = "", ...words]: readonly string[]) {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, script), ...words], {
    stdio: ["ignore", "pipe", "inherit"],
    cwd: workplace,
  });
  const lines: string[] = [];
  const read = async () => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of child.stdout) {
      const all = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = all.pop() ?? "";
      lines.push(...all);
    }
  };
  void read();
  return {
    lines,
    kill: (signal: NodeJS.Signals) => child.kill(signal),
    async found(pattern: RegExp, signal: AbortSignal): Promise<string> {
      for (;;) {
        for (const line of lines) {
          const found = pattern.exec(line);
          if (found) return found[1] ?? "";
        }
        if (child.exitCode !== null) throw new Error(`${script} has ended`);
        await sleep(10, signal);
      }
    },
    async [Symbol.asyncDispose]() {
      child.kill("SIGCONT");
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

async function untilRight(
  lines: readonly string[],
  { from, wentOn, signal }: { from: number; wentOn: number; signal: AbortSignal },
): Promise<number | null> {
  while (performance.now() - wentOn < RIGHT_LIMIT_MS) {
    if (lines.slice(from).some(isNow)) return performance.now() - wentOn;
    await sleep(5, signal);
  }
  return null;
}

function isNow(line: string): boolean {
  const clock = /^screen (\d\d):(\d\d):(\d\d)/.exec(line)?.slice(1).map(Number);
  if (!clock) return false;
  const [hours = 0, minutes = 0, seconds = 0] = clock;
  const now = new Date();
  const shown = new Date(now).setHours(hours, minutes, seconds, 0);
  const behind = Math.abs(now.getTime() - shown) % DAY_MS;
  return behind < CLOCK_SLACK_MS;
}
