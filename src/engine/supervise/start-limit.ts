/** Decides whether a start still makes progress, from two looks at it. Pure. */

/** What can be seen of an engine that starts. */
export interface StartSample {
  /** In ms, on any clock that only goes forward. */
  atMs: number;
  /** Lines that it has printed so far. */
  lines: number;
  /** Its phase as shown, with its percentage or size. */
  phase: string | null;
  /** What its model cache has grown by. */
  cacheBytes: number;
  /** Processor time that its processes have used so far; null where nobody can say. */
  cpuMs: number | null;
}

export interface StartMark {
  sample: StartSample;
  /** When it last made progress, on the clock of the samples. */
  progressAtMs: number;
}

/** The share of a core that counts as work: a program that only waits uses less. */
const BUSY_SHARE = 0.05;

/** The mark after one more look; `before` is null at the first. */
export function noteStart(before: StartMark | null, sample: StartSample): StartMark {
  if (before === null || hasProgress(before.sample, sample)) {
    return { sample, progressAtMs: sample.atMs };
  }
  return { sample, progressAtMs: before.progressAtMs };
}

/** How long there has been no progress. */
export function stalledMs({ sample, progressAtMs }: StartMark): number {
  return sample.atMs - progressAtMs;
}

function hasProgress(before: StartSample, now: StartSample): boolean {
  if (now.lines !== before.lines || now.phase !== before.phase) return true;
  if (now.cacheBytes > before.cacheBytes) return true;
  if (now.cpuMs === null || before.cpuMs === null) return false;
  return now.cpuMs - before.cpuMs >= BUSY_SHARE * (now.atMs - before.atMs);
}
