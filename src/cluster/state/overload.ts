/** Which engines have too much to do: by their own figures, and by their answers. */

import { loadOf } from "./load.ts";
import type { ClusterState, Engine, Overload, LoadFigures } from "./state.ts";

/** Above these figures an engine is overloaded, and at or below the others it is not any more. */
const OVERLOADED = { waiting: 5, kvUsage: 0.9 };
const RELIEVED = { waiting: 2, kvUsage: 0.8 };
/** How long an engine that has said that it has no room is not asked, and at most. */
const BUSY_MS = 1000;
const MAX_BUSY_MS = 30_000;

export function newOverload(): Overload {
  return { sample: null, isOn: false, busyUntil: 0, peak: 0, lastPeak: 0 };
}

/** Whether others are asked first. What is not known, or not any more, is not "full". */
export function isOverloaded(engine: Engine, at: { now: number; loadMaxAgeMs: number }): boolean {
  const { load, overload } = engine;
  if (load === null) return false;
  if (load !== overload.sample) inspect(engine, load);
  return overload.isOn && at.now - load.sampledAt <= at.loadMaxAgeMs;
}

/** Whether it has said so lately that it has no room. */
export function isBusy(engine: Engine, now: number): boolean {
  return now < engine.overload.busyUntil;
}

/** The engine has answered that it has no room; `retryAfterMs` if it says until when. */
export function noteBusy(engine: Engine, retryAfterMs: number | null, now: number): void {
  const ms = Math.min(MAX_BUSY_MS, Math.max(0, retryAfterMs ?? BUSY_MS));
  engine.overload.busyUntil = Math.max(engine.overload.busyUntil, now + ms);
}

/** Another lease is held on it. */
export function noteLeased(engine: Engine): void {
  if (engine.inFlight > engine.overload.peak) engine.overload.peak = engine.inFlight;
}

/**
 * Requests on the engine that are not ours. Its figures are some seconds old: what we have had there
 * meanwhile, at the most, may be in them.
 */
export function foreignLoad(state: ClusterState, engine: Engine, now: number): number {
  const load = loadOf(state, engine, now);
  if (load === null || (load.running === null && load.waiting === null)) return 0;
  if (load !== engine.overload.sample) inspect(engine, load);
  const own = Math.max(engine.inFlight, engine.overload.peak, engine.overload.lastPeak);
  return Math.max(0, (load.running ?? 0) + (load.waiting ?? 0) - own);
}

function inspect(engine: Engine, load: LoadFigures): void {
  const { overload } = engine;
  overload.sample = load;
  overload.lastPeak = overload.peak;
  overload.peak = engine.inFlight;
  const waiting = load.waiting ?? 0;
  const kvUsage = load.kvUsage ?? 0;
  if (waiting > OVERLOADED.waiting || kvUsage >= OVERLOADED.kvUsage) overload.isOn = true;
  else if (waiting <= RELIEVED.waiting && kvUsage <= RELIEVED.kvUsage) overload.isOn = false;
}
