/** Watches a fuzzing process from outside: it sees a hang and a crash, which that one cannot. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openNote } from "./note.ts";

export interface GuardOptions {
  /** What is started; the note's file is added to it. */
  argv: readonly string[];
  /** How long a round may take. */
  roundMs: number;
  pollMs?: number;
  /** The fuzzers' names, in the order of the list. */
  names: readonly string[];
  signal: AbortSignal;
}

export interface Guarded {
  /** The process's own exit code; null where it had to be ended, or crashed. */
  code: number | null;
  /** What was seen from outside, in words; null: nothing. */
  finding: { text: string; name: string; seed: number } | null;
}

export async function runGuarded(options: GuardOptions): Promise<Guarded> {
  const { roundMs, pollMs = 250, signal } = options;
  const dir = mkdtempSync(join(tmpdir(), "llmnode-fuzz-"));
  const file = join(dir, "round");
  const note = openNote(file);
  const child = Bun.spawn([...options.argv, file], {
    stdio: ["ignore", "inherit", "inherit"],
    // What it leaves behind when it is ended goes with the folder.
    env: { ...process.env, TMPDIR: dir },
    // A group of its own: Ctrl-C comes to this process, which ends it.
    detached: true,
  });
  const end = () => child.kill("SIGKILL");
  signal.addEventListener("abort", end, { once: true });
  let isHung = false;
  let seen = { count: 0, at: performance.now() };
  const timer = setInterval(() => {
    const { count } = note.read();
    if (count !== seen.count) seen = { count, at: performance.now() };
    // Before the first round much is loaded, which takes its time.
    if (count === 0 || performance.now() - seen.at < roundMs) return;
    isHung = true;
    end();
  }, pollMs);
  try {
    await child.exited;
    const { fuzzer, seed } = note.read();
    const at = { name: options.names[fuzzer] ?? "unknown", seed };
    if (isHung) return { code: null, finding: { ...at, text: `a round took over ${roundMs} ms` } };
    if (child.signalCode !== null && !signal.aborted) {
      return { code: null, finding: { ...at, text: `it was ended by ${child.signalCode}` } };
    }
    return { code: child.exitCode, finding: null };
  } finally {
    clearInterval(timer);
    signal.removeEventListener("abort", end);
    end();
    rmSync(dir, { recursive: true, force: true });
  }
}
