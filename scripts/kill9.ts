/** Kills the head at random points: `scripts/run.sh kill9 [options]`; nothing confirmed may be lost. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { killRounds } from "./kill9/rounds.ts";

const USAGE = `Usage: scripts/run.sh kill9 [options]

Starts a head, has operators create and take back API keys, join tokens, aliases and drains, kills it
with SIGKILL at a random point, and starts it anew on the same data. Exit code 1 when something is
gone that it had confirmed, or when it does not start.

  --rounds <n>     kills [100]
  --operators <n>  that work at the same time [3]
  --seed <n>       for points in time and choices [1]
  --binary <path>  the llmnode to run [bun src/main.ts]`;

const ROOT = resolve(import.meta.dir, "..");
/** About twice what a start takes. */
const LIFE_MS = 600;
const WRONG_USAGE = 2;

process.exit(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  if (args.includes("--help")) return print(USAGE);
  let options: ReturnType<typeof readOptions>;
  try {
    options = readOptions(args);
  } catch (error) {
    tell(`error: ${error instanceof Error ? error.message : String(error)}`);
    return WRONG_USAGE;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort(new Error("interrupted")));
  }
  const folder = mkdtempSync(join(tmpdir(), "llmnode-kill9-"));
  try {
    const { binary, ...rest } = options;
    const program = binary === null ? [process.execPath, join(ROOT, "src/main.ts")] : [binary];
    const result = await killRounds({
      ...{ ...rest, program, folder, root: ROOT, lifeMs: LIFE_MS, signal: stop.signal },
    });
    const { rounds, early, confirmed, lost } = result;
    for (const line of lost) tell(line);
    print(
      `${rounds} kills (${early} before the head served), ${confirmed} confirmed changes, ${lost.length} lost`,
    );
    return lost.length === 0 ? 0 : 1;
  } catch (error) {
    tell(`error: ${error instanceof Error ? error.message : String(error)}`);
    return 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readOptions(args: string[]) {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: "100" },
      operators: { type: "string", default: "3" },
      seed: { type: "string", default: "1" },
      binary: { type: "string" },
    },
  });
  return {
    rounds: whole("rounds", values.rounds),
    operators: whole("operators", values.operators),
    seed: whole("seed", values.seed),
    binary: values.binary === undefined ? null : resolve(values.binary),
  };
}

function whole(flag: string, text: string): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value < 1) throw new Error(`--${flag} needs a whole number of at least 1`);
  return value;
}

function print(text: string): 0 {
  process.stdout.write(`${text}\n`);
  return 0;
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
