/** The options of the fuzzing script. */

import { parseArgs } from "node:util";

export const USAGE = `Usage: scripts/run.sh fuzz [options]

Gives what reads foreign text and bytes damaged ones, in turns. Exit code 1 when something is wrong:
an error that is none of ours, a crash, a hang, or memory that grows.

  --minutes <n>   how long; 0.1 is enough for a look [1]
  --rounds <n>    of each fuzzer at most
  --only <names>  fuzzers, separated by commas; --list shows them
  --seed <n>      of the first round; each round has the next [random]
  --growth <MiB>  growth of the memory, from the second quarter of a run to its last, at which it
                  fails [64]
  --list          name the fuzzers`;

export interface FuzzOptions {
  minutes: number;
  rounds: number | null;
  only: readonly string[];
  seed: number;
  growthBytes: number;
  /** The file of the process that watches this one; null: this is that process. */
  note: string | null;
}

/** Throws an Error for what it does not understand. */
export function readOptions(args: string[], names: readonly string[]): FuzzOptions {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: "string" },
      rounds: { type: "string" },
      only: { type: "string" },
      seed: { type: "string" },
      growth: { type: "string" },
      // Set by the script itself.
      note: { type: "string" },
    },
  });
  const only = values.only === undefined ? names : values.only.split(",");
  const unknown = only.find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new Error(`no fuzzer is called "${unknown}"; there are ${names.join(", ")}`);
  }
  const drawn = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return {
    minutes: positive("minutes", values.minutes ?? "1"),
    rounds: values.rounds === undefined ? null : whole("rounds", values.rounds),
    only,
    seed: values.seed === undefined ? drawn : whole("seed", values.seed),
    growthBytes: positive("growth", values.growth ?? "64") * 1024 ** 2,
    note: values.note ?? null,
  };
}

function positive(flag: string, text: string): number {
  const value = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : 0;
  if (value <= 0) throw new Error(`--${flag} needs a number above 0`);
  return value;
}

function whole(flag: string, text: string): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value < 2 ** 32)) throw new Error(`--${flag} needs a whole number`);
  return value;
}
