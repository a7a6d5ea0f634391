/** Requests that end engines: known by the hash of their bodies, and refused after two deaths. */

export const POISON_LIMITS = {
  /** Engines that die before a body is refused. */
  deaths: 2,
  /** How long it is refused, and how long a death is remembered. */
  refuseMs: 600_000,
  /** How far the end of an engine and that of a request on it may lie apart. */
  apartMs: 2000,
  maxHashes: 10_000,
};
export type PoisonLimits = typeof POISON_LIMITS;

export interface Poison {
  /** By body, oldest death first: the engine runs that died of it, `deaths` at most. */
  victims: Map<string, { runs: string[]; at: number }>;
  /** Requests that failed, in order: their engine's end may become known later. */
  failed: { hash: string; run: string; at: number }[];
  /** Engine runs that ended by themselves, in order, and when. */
  crashes: Map<string, number>;
  /** Those that became killers, until somebody has told of them. */
  killers: Killer[];
}

/** A body that has killed as many engines as it may. */
export interface Killer {
  hash: string;
  deaths: number;
}

interface At {
  now: number;
  limits: PoisonLimits;
}

export function newPoison(): Poison {
  return { victims: new Map(), failed: [], crashes: new Map(), killers: [] };
}

/** Whether the run ended by itself, and not because somebody stopped it. */
export function hasCrashed(poison: Poison, run: string): boolean {
  return poison.crashes.has(run);
}

/** A request has failed on an engine run. Gives the killer if that is what it now is. */
export function noteFailed(
  poison: Poison,
  failed: { hash: string; run: string },
  at: At,
): Killer | null {
  const { now, limits } = at;
  forgetOld(poison, at);
  const crashed = poison.crashes.get(failed.run);
  if (crashed === undefined) {
    poison.failed.push({ ...failed, at: now });
    return null;
  }
  return now - crashed <= limits.apartMs ? convict(poison, failed, at) : null;
}

/** An engine run has ended by itself. Gives the killers that this made. */
export function noteCrash(poison: Poison, run: string, at: At): Killer[] {
  if (poison.crashes.has(run)) return [];
  forgetOld(poison, at);
  poison.crashes.set(run, at.now);
  const killers: Killer[] = [];
  for (const failed of poison.failed) {
    const killer = failed.run === run ? convict(poison, failed, at) : null;
    if (killer) killers.push(killer);
  }
  return killers;
}

/** Whether an engine has died while it had this body, whichever of its requests killed it. */
export function isSuspect(poison: Poison, hash: string, { now, limits }: At): boolean {
  const victim = poison.victims.get(hash);
  return victim !== undefined && now - victim.at <= limits.refuseMs;
}

/** How many engines the body has killed, where it is refused for that; else 0. */
export function deathsOf(poison: Poison, hash: string, at: At): number {
  const deaths = isSuspect(poison, hash, at) ? (poison.victims.get(hash)?.runs.length ?? 0) : 0;
  return deaths >= at.limits.deaths ? deaths : 0;
}

function convict(
  poison: Poison,
  { hash, run }: { hash: string; run: string },
  { now, limits }: At,
): Killer | null {
  const known = poison.victims.get(hash);
  const runs = known !== undefined && now - known.at <= limits.refuseMs ? known.runs : [];
  if (runs.includes(run) || runs.length >= limits.deaths) return null;
  runs.push(run);
  // The map keeps insertion order, so that its first key is the one that died longest ago.
  poison.victims.delete(hash);
  poison.victims.set(hash, { runs, at: now });
  for (const oldest of poison.victims.keys()) {
    if (poison.victims.size <= limits.maxHashes) break;
    poison.victims.delete(oldest);
  }
  return runs.length >= limits.deaths ? { hash, deaths: runs.length } : null;
}

function forgetOld(poison: Poison, { now, limits }: At): void {
  const { failed, crashes } = poison;
  const fresh = failed.findIndex(({ at }) => now - at <= limits.apartMs);
  failed.splice(0, fresh < 0 ? failed.length : fresh);
  // Who fails that many requests within seconds is not looking for a single killer.
  failed.splice(0, failed.length - limits.maxHashes);
  for (const [run, at] of crashes) {
    if (now - at <= CRASH_MEMORY * limits.apartMs) break;
    crashes.delete(run);
  }
}

/** An end is asked about a while later too: `died` waits. */
const CRASH_MEMORY = 10;
