/** A fuzzing process that misbehaves as its first word says; its last is the note's file. */

import { pure } from "../../../scripts/fuzz/fuzzer.ts";
import { openNote } from "../../../scripts/fuzz/note.ts";
import { runRounds } from "../../../scripts/fuzz/rounds.ts";

const HELD: Uint8Array[] = [];

const WAYS: Record<string, () => void | Promise<void>> = {
  spins: () => {
    for (;;) Math.sqrt(2);
  },
  waits: () => new Promise<void>(() => {}),
  crashes: () => {
    process.kill(process.pid, "SIGSEGV");
  },
  throws: () => {
    throw new Error("found it");
  },
  forgets: async () => {
    void Promise.reject(new Error("nobody waits"));
    await Bun.sleep(1);
  },
  leaks: () => {
    HELD.push(new Uint8Array(1024 * 1024).fill(1));
  },
};

const way = process.argv[2] ?? "";
const act = WAYS[way];
const fine = pure("fine", "does nothing", () => {});
const bad = pure("bad", way, (random) => (random.chance(0.9) ? act?.() : undefined));

const summary = await runRounds({
  fuzzers: [fine, bad],
  seed: 7,
  durationMs: way === "leaks" ? null : 500,
  rounds: way === "leaks" ? 60 : null,
  turnMs: way === "leaks" ? 0 : 10,
  growthBytes: 8 * 1024 ** 2,
  note: openNote(process.argv.at(-1) ?? ""),
  say: (line) => void process.stdout.write(`${line}\n`),
});
process.exit(summary.isClean ? 0 : 1);
