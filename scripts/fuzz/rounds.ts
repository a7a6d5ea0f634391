/** Runs fuzzers in turns and watches what their rounds leave in memory. */

import type { Fuzzer, Opened } from "./fuzzer.ts";
import type { Note } from "./note.ts";
import { createRandom } from "./random.ts";

export interface RoundsOptions {
  fuzzers: readonly Fuzzer[];
  /** The first round's; each round has the next. */
  seed: number;
  /** When no further turn begins; null: only `rounds` counts. */
  durationMs: number | null;
  /** Of each fuzzer at most; null: no limit. */
  rounds: number | null;
  /** How long one fuzzer goes on before the next one's turn; one round at least. */
  turnMs: number;
  /** What the memory may grow by, from the second quarter of the run to its last. */
  growthBytes: number;
  note: Note;
  say(line: string): void;
}

export interface Summary {
  fuzzers: {
    name: string;
    rounds: number;
    /** In words; null: nothing was found. */
    finding: string | null;
  }[];
  /** Null: the run was too short to tell. */
  grownBytes: number | null;
  isClean: boolean;
}

interface Run {
  fuzzer: Fuzzer;
  opened: Opened;
  rounds: number;
  finding: string | null;
}

/** Fuzzing goes on with the others when one has found something. */
export async function runRounds(options: RoundsOptions): Promise<Summary> {
  const { fuzzers, say, growthBytes } = options;
  const started = performance.now();
  const left = () =>
    options.durationMs === null ? Infinity : started + options.durationMs - performance.now();
  await using stack = new AsyncDisposableStack();
  const runs: Run[] = [];
  for (const fuzzer of fuzzers) {
    const opened = stack.use(await fuzzer.open());
    runs.push({ fuzzer, opened, rounds: 0, finding: null });
  }
  const mayGoOn = (run: Run) =>
    run.finding === null && (options.rounds === null || run.rounds < options.rounds);
  let count = 0;
  /** Takes what nobody waited for: the runtime would print it and go on. */
  let strayed: (error: unknown) => void = (error) => say(String(error));
  const onStray = (error: unknown) => strayed(error);
  for (const event of ["unhandledRejection", "uncaughtException"]) {
    process.on(event, onStray);
    stack.defer(() => void process.off(event, onStray));
  }
  const once = async (run: Run) => {
    const seed = (options.seed + run.rounds) >>> 0;
    count += 1;
    options.note.write({ count, fuzzer: fuzzers.indexOf(run.fuzzer), seed });
    run.rounds += 1;
    const found = (error: unknown) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      run.finding ??= `${text}\nagain: ${againLine(run.fuzzer.name, seed)}`;
    };
    strayed = found;
    try {
      await run.opened.once(createRandom(seed));
    } catch (error) {
      found(error);
    }
    if (run.finding !== null) say(`${run.fuzzer.name}: ${run.finding}`);
  };
  const takeTurn = async (run: Run) => {
    const turnMs = options.turnMs * (run.fuzzer.turns ?? 1);
    const end = performance.now() + Math.min(turnMs, left());
    // One at least, however short the turns are.
    do await once(run);
    while (mayGoOn(run) && performance.now() < end);
  };
  /** After each turn of all: what one leaves for the next to clear away is no growth. */
  const memory: number[] = [];
  while (left() > 0 && runs.some(mayGoOn)) {
    for (const run of runs) if (left() > 0 && mayGoOn(run)) await takeTurn(run);
    memory.push(await residentBytes());
  }
  const grownBytes = growthOf(memory);
  const isGrowing = grownBytes !== null && grownBytes > growthBytes;
  if (isGrowing) {
    say(`memory grew by ${mebibytes(grownBytes)} in ${count} rounds; --only tells whose it is`);
  }
  return {
    fuzzers: runs.map(({ fuzzer, rounds, finding }) => ({ name: fuzzer.name, rounds, finding })),
    grownBytes,
    isClean: !isGrowing && runs.every(({ finding }) => finding === null),
  };
}

/** What a person types to have one round again. */
export function againLine(name: string, seed: number): string {
  return `scripts/run.sh fuzz --only ${name} --seed ${seed} --rounds 1`;
}

/** Fewer tell nothing: what is loaded and compiled at first is no leak. */
const LEAST_SAMPLES = 8;

/** From the least in the second quarter to the least in the last one. */
function growthOf(samples: readonly number[]): number | null {
  const quarter = Math.floor(samples.length / 4);
  if (samples.length < LEAST_SAMPLES) return null;
  return Math.min(...samples.slice(-quarter)) - Math.min(...samples.slice(quarter, 2 * quarter));
}

async function residentBytes(): Promise<number> {
  // What finalizers let go is gone after the second one.
  for (let i = 0; i < 2; i += 1) {
    Bun.gc(true);
    await Bun.sleep(0);
  }
  Bun.shrink();
  return process.memoryUsage.rss();
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
