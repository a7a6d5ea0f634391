/** The options of the drill. */

import { parseArgs } from "node:util";
import { parseDuration } from "../../src/util/units.ts";
import { DRILLS } from "./faults.ts";

export const USAGE = `Usage: scripts/run.sh drill [options]

A head, workers with simulated engines, and clients that ask for streams while something breaks.
Exit code 1 when an answer is lost, wrong or late that should not be.

  --only <names>       drills to run, separated by commas; --list shows them
  --clients <n>        clients that ask at the same time [8]
  --requests <n>       requests of each client in a drill, at least [100]
  --workers <n>        [4]
  --limit <duration>   a request without an end for so long is hung [60s]
  --seed <n>           for prompts, lengths and choices [1]
  --binary <path>      the llmnode to run [bun src/main.ts]
  --soak <duration>    all drills in random order, again and again
  --growth <size>      growth of the head's memory in a soak, its first quarter left out, at
                       which it fails [32MiB]
  --keep               keep the logs
  --json               the results as JSON, one object
  --list               name the drills`;

export interface DrillOptions {
  only: readonly string[];
  clients: number;
  requests: number;
  workers: number;
  limitMs: number;
  seed: number;
  binary: string | null;
  soakMs: number | null;
  growthBytes: number;
  keep: boolean;
  json: boolean;
}

/** Throws an Error for what it does not understand. */
export function readOptions(args: string[]): DrillOptions {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: "string" },
      clients: { type: "string" },
      requests: { type: "string" },
      workers: { type: "string" },
      limit: { type: "string" },
      seed: { type: "string" },
      binary: { type: "string" },
      soak: { type: "string" },
      growth: { type: "string" },
      keep: { type: "boolean" },
      json: { type: "boolean" },
    },
  });
  const known = DRILLS.map((drill) => drill.name);
  const only = values.only === undefined ? known : values.only.split(",");
  const unknown = only.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new Error(`no drill is called "${unknown}"; there are ${known.join(", ")}`);
  }
  if (values.soak !== undefined && only.every((name) => name === "head-restart")) {
    throw new Error("a soak needs a drill beside head-restart");
  }
  return {
    only,
    clients: whole("clients", values.clients, { otherwise: 8, min: 1 }),
    requests: whole("requests", values.requests, { otherwise: 100, min: 1 }),
    // With two engines down at once others must be left.
    workers: whole("workers", values.workers, { otherwise: 4, min: 3 }),
    limitMs: duration("limit", values.limit ?? "60s"),
    seed: whole("seed", values.seed, { otherwise: 1, min: 0 }),
    binary: values.binary ?? null,
    soakMs: values.soak === undefined ? null : duration("soak", values.soak),
    growthBytes: mebibytes("growth", values.growth ?? "32MiB"),
    keep: values.keep ?? false,
    json: values.json ?? false,
  };
}

function whole(
  flag: string,
  text: string | undefined,
  { otherwise, min }: { otherwise: number; min: number },
): number {
  if (text === undefined) return otherwise;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min)) throw new Error(`--${flag} needs a whole number of at least ${min}`);
  return value;
}

function duration(flag: string, text: string): number {
  const value = parseDuration(text);
  if (value === null || value <= 0) throw new Error(`--${flag} needs a duration such as 60s or 1h`);
  return value;
}

function mebibytes(flag: string, text: string): number {
  const [, digits] = /^(\d{1,6})MiB$/.exec(text) ?? [];
  if (digits === undefined) throw new Error(`--${flag} needs a size such as 32MiB`);
  return Number(digits) * 1024 ** 2;
}
