/** Benchmarks: `bun scripts/bench.ts <what> [options]`. What there is: front. */

import { FRONT_USAGE, readFrontOptions, runFront } from "./bench/front.ts";

const INTERRUPTED = 130;
const USAGE = 2;

async function main(args: string[]): Promise<number> {
  const [what, ...rest] = args;
  if (what !== "front" || rest.includes("--help")) {
    process.stderr.write(`${FRONT_USAGE}\n`);
    return rest.includes("--help") || what === "--help" ? 0 : USAGE;
  }
  if (process.platform !== "linux") throw new Error("it reads /proc and runs on Linux only");
  let options: ReturnType<typeof readFrontOptions>;
  try {
    options = readFrontOptions(rest);
  } catch (error) {
    process.stderr.write(`error: ${messageOf(error)}\n`);
    return USAGE;
  }
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => stop.abort(new Error("interrupted")));
  }
  try {
    await runFront(options, stop.signal);
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
