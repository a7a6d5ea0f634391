/** Fuzzing: `scripts/run.sh fuzz [options]`, see scripts/fuzz/options.ts. */

import { FUZZERS } from "./fuzz/all.ts";
import { runGuarded } from "./fuzz/guard.ts";
import { openNote } from "./fuzz/note.ts";
import { type FuzzOptions, readOptions, USAGE } from "./fuzz/options.ts";
import { againLine, mebibytes, runRounds } from "./fuzz/rounds.ts";

/** Some rounds wait for a head's own deadlines; none takes nearly as long. */
const ROUND_MS = 30_000;
const TURN_MS = 2000;
const WRONG_USAGE = 2;
const INTERRUPTED = 130;
const NAMES = FUZZERS.map(({ name }) => name);

process.exit(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  if (args.includes("--help")) return print(USAGE);
  if (args.includes("--list")) {
    return print(FUZZERS.map(({ name, about }) => `${name.padEnd(17)} ${about}`).join("\n"));
  }
  let options: FuzzOptions;
  try {
    options = readOptions(args, NAMES);
  } catch (error) {
    process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
    return WRONG_USAGE;
  }
  return options.note === null ? await watch(options, args) : await fuzz(options, options.note);
}

/** Starts this script once more, to do the work where it may crash. */
async function watch({ seed, only }: FuzzOptions, args: string[]): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort());
  }
  print(`seed ${seed}`);
  const { code, finding } = await runGuarded({
    // What is given twice counts as given last.
    argv: [process.execPath, import.meta.path, ...args, "--seed", String(seed), "--note"],
    roundMs: ROUND_MS,
    names: NAMES.filter((name) => only.includes(name)),
    signal: stop.signal,
  });
  if (stop.signal.aborted) return INTERRUPTED;
  if (finding === null) return code ?? 1;
  const { text, name } = finding;
  process.stderr.write(`${name}: ${text}\nagain: ${againLine(name, finding.seed)}\n`);
  return 1;
}

async function fuzz(options: FuzzOptions, noteFile: string): Promise<number> {
  const { rounds, seed, growthBytes, minutes } = options;
  const summary = await runRounds({
    fuzzers: FUZZERS.filter(({ name }) => options.only.includes(name)),
    seed,
    durationMs: rounds === null ? minutes * 60_000 : null,
    rounds,
    turnMs: TURN_MS,
    growthBytes,
    note: openNote(noteFile),
    say: (line) => void process.stderr.write(`${line}\n`),
  });
  for (const { name, rounds: done, finding } of summary.fuzzers) {
    const word = finding === null ? "clean" : "FOUND";
    print(`${name.padEnd(17)} ${String(done).padStart(9)} rounds  ${word}`);
  }
  const { grownBytes } = summary;
  print(
    `memory: ${grownBytes === null ? "too short a run to tell" : `grew by ${mebibytes(grownBytes)}`}`,
  );
  return summary.isClean ? 0 : 1;
}

function print(text: string): 0 {
  process.stdout.write(`${text}\n`);
  return 0;
}
