/** Which engines have too much to do: by their own figures, and by their answers. */

import { loadOf } from "./load.ts";
import type { ClusterState, Engine, Latch, LoadFigures } from "./state.ts";

/** Above these figures an engine is latched, and below the others it is not any more. */
const LATCH = { waiting: 5, kvUsage: 0.9 };
const UNLATCH = { waiting: 2, kvUsage: 0.8 };
/** How long an engine that has said that it has no room is not asked, and at most. */
const BUSY_MS = 1000;
const MAX_BUSY_MS = 30_000;

export function newLatch(): Latch {
  return { sample: null, isOn: false, busyUntil: 0, peak: 0, lastPeak: 0 };
}

/** Whether others are asked first. What is not known, or not any more, is not "full". */
export function isLatched(engine: Engine, at: { now: number; loadMaxAgeMs: number }): boolean {
  const { load, latch } = engine;
  if (load === null) return false;
  if (load !== latch.sample) look(engine, load);
  return latch.isOn && at.now - load.sampledAt <= at.loadMaxAgeMs;
}

/** Whether it has said so lately that it has no room. */
export function isBusy(engine: Engine, now: number): boolean {
  return now < engine.latch.busyUntil;
}

/** The engine has answered that it has no room; `retryAfterMs` if it says until when. */
export function noteBusy(engine: Engine, retryAfterMs: number | null, now: number): void {
  const ms = Math.min(MAX_BUSY_MS, Math.max(0, retryAfterMs ?? BUSY_MS));
  engine.latch.busyUntil = Math.max(engine.latch.busyUntil, now + ms);
}

/** Another lease is held on it. */
export function noteLeased(engine: Engine): void {
  if (engine.inFlight > engine.latch.peak) engine.latch.peak = engine.inFlight;
}

/**
 * Requests on the engine that are not ours. Its figures are some seconds old: what we have had there
 * meanwhile, at the most, may be in them.
 */
export function foreignLoad(state: ClusterState, engine: Engine, now: number): number {
  const load = loadOf(state, engine, now);
  if (load === null || (load.running === null && load.waiting === null)) return 0;
  if (load !== engine.latch.sample) look(engine, load);
  const own = Math.max(engine.inFlight, engine.latch.peak, engine.latch.lastPeak);
  return Math.max(0, (load.running ?? 0) + (load.waiting ?? 0) - own);
}

function look(engine: Engine, load: LoadFigures): void {
  const { latch } = engine;
  latch.sample = load;
  latch.lastPeak = latch.peak;
  latch.peak = engine.inFlight;
  const waiting = load.waiting ?? 0;
  const kvUsage = load.kvUsage ?? 0;
  if (waiting > LATCH.waiting || kvUsage >= LATCH.kvUsage) latch.isOn = true;
  else if (waiting <= UNLATCH.waiting && kvUsage <= UNLATCH.kvUsage) latch.isOn = false;
}
