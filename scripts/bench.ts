/** Benchmarks: `scripts/run.sh bench <what> [options]`; without a name it tells which there are. */

import { DECIDE_USAGE, readDecideOptions, runDecide } from "./bench/decide.ts";
import { FRONT_USAGE, readFrontOptions, runFront } from "./bench/front/front.ts";
import { KEYS_USAGE, readKeysOptions, runKeys } from "./bench/keys/keys.ts";
import {
  LANE_USAGE,
  readLaneOptions,
  readSessionsOptions,
  SESSIONS_USAGE,
} from "./bench/lane/options.ts";
import { runLane } from "./bench/lane/lane.ts";
import { PAIRS_USAGE, readPairsOptions, runPairs } from "./bench/pairs.ts";
import { ROUTING_USAGE, readRoutingOptions, runRouting } from "./bench/routing/routing.ts";
import { runSessions } from "./bench/sessions/sessions.ts";
import { readTopOptions, runTopBench, TOP_USAGE } from "./bench/top/top.ts";

const INTERRUPTED = 130;
const USAGE = 2;

interface Benchmark {
  usage: string;
  /** Throws on options that it does not understand; what it gives runs. */
  read(args: string[]): (signal: AbortSignal) => Promise<void>;
}

const BENCHMARKS = new Map<string, Benchmark>([
  ["front", { usage: FRONT_USAGE, read: (args) => bound(runFront, readFrontOptions(args)) }],
  ["pairs", { usage: PAIRS_USAGE, read: (args) => bound(runPairs, readPairsOptions(args)) }],
  ["keys", { usage: KEYS_USAGE, read: (args) => bound(runKeys, readKeysOptions(args)) }],
  ["decide", { usage: DECIDE_USAGE, read: (args) => bound(runDecide, readDecideOptions(args)) }],
  [
    "routing",
    { usage: ROUTING_USAGE, read: (args) => bound(runRouting, readRoutingOptions(args)) },
  ],
  ["lane", { usage: LANE_USAGE, read: (args) => bound(runLane, readLaneOptions(args)) }],
  ["top", { usage: TOP_USAGE, read: (args) => bound(runTopBench, readTopOptions(args)) }],
  [
    "sessions",
    { usage: SESSIONS_USAGE, read: (args) => bound(runSessions, readSessionsOptions(args)) },
  ],
]);

function bound<O>(
  run: (options: O, signal: AbortSignal) => Promise<void>,
  options: O,
): (signal: AbortSignal) => Promise<void> {
  return (signal) => run(options, signal);
}

async function main(args: string[]): Promise<number> {
  const [what = "", ...rest] = args;
  const benchmark = BENCHMARKS.get(what);
  if (benchmark === undefined || rest.includes("--help")) {
    const usages = benchmark === undefined ? [...BENCHMARKS.values()] : [benchmark];
    process.stderr.write(`${usages.map(({ usage }) => usage).join("\n\n")}\n`);
    return rest.includes("--help") || what === "--help" ? 0 : USAGE;
  }
  if (process.platform !== "linux") throw new Error("it reads /proc and runs on Linux only");
  let run: ReturnType<Benchmark["read"]>;
  try {
    run = benchmark.read(rest);
  } catch (error) {
    process.stderr.write(`error: ${messageOf(error)}\n`);
    return USAGE;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort(new Error("interrupted")));
  }
  try {
    await run(stop.signal);
    return 0;
  } catch (error) {
    process.stderr.write(`error: ${messageOf(error)}\n`);
    return stop.signal.aborted ? INTERRUPTED : 1;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

process.exit(await main(process.argv.slice(2)));
