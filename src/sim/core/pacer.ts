/** One clock for all answers: due times of the same millisecond share one timer. */

/** Longer timers fire at once; a step that is called early asks for the rest of its time again. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/**
 * Does what is due; returns when it wants to run next (`performance.now()` time), or null. It may
 * be called early and must look at the time it is given.
 */
export type Step = (nowMs: number) => number | null;

export interface Pacer {
  /** Runs the step at a time of the `performance.now()` clock; a past time means soon. */
  start(step: Step, atMs: number): void;
  /** Forgets a step; one that is not waiting is left alone. */
  cancel(step: Step): void;
  /** Forgets all steps, and from now on takes none. */
  stop(): void;
}

/**
 * A timer for each millisecond in which anything is due, not one for each answer: 500 answers at 50
 * tokens a second need at most 1000 timers a second instead of 25,000.
 */
export function createPacer(): Pacer {
  const slots = new Map<number, { steps: Set<Step>; disarm: () => void }>();
  const slotOf = new Map<Step, number>();
  let isStopped = false;

  const run = (key: number) => {
    const slot = slots.get(key);
    slots.delete(key);
    if (!slot) return;
    const now = performance.now();
    for (const step of slot.steps) {
      if (slotOf.get(step) !== key) continue; // cancelled by a step before it
      slotOf.delete(step);
      const next = step(now);
      if (next !== null) place(step, next, now);
    }
  };

  const place = (step: Step, atMs: number, now: number) => {
    if (isStopped) return;
    // Key 0 is "at the next turn of the event loop": sockets get their turn in between.
    const key = atMs <= now ? 0 : Math.ceil(atMs);
    slotOf.set(step, key);
    const slot = slots.get(key);
    if (slot) {
      slot.steps.add(step);
    } else if (key === 0) {
      const handle = setImmediate(run, key);
      slots.set(key, { steps: new Set([step]), disarm: () => clearImmediate(handle) });
    } else {
      const handle = setTimeout(run, Math.min(key - now, MAX_DELAY_MS), key);
      slots.set(key, { steps: new Set([step]), disarm: () => clearTimeout(handle) });
    }
  };

  const start = (step: Step, atMs: number) => place(step, atMs, performance.now());

  const cancel = (step: Step) => {
    const key = slotOf.get(step);
    if (key === undefined) return;
    slotOf.delete(step);
    const slot = slots.get(key);
    slot?.steps.delete(step);
    if (slot?.steps.size === 0) {
      slot.disarm();
      slots.delete(key);
    }
  };

  const stop = () => {
    isStopped = true;
    for (const slot of slots.values()) slot.disarm();
    slots.clear();
    slotOf.clear();
  };
  return { start, cancel, stop };
}
