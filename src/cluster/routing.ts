/** Picks the replica for a request. */

import type { Replica } from "./catalog.ts";

/** The least requests in flight on the engine, ties at random: a fixed tie would herd. */
export function pickReplica(candidates: readonly Replica[], random: () => number): Replica | null {
  let best: Replica | null = null;
  let ties = 0;
  for (const replica of candidates) {
    const load = replica.engine.inFlight;
    if (best === null || load < best.engine.inFlight) {
      best = replica;
      ties = 1;
    } else if (load === best.engine.inFlight) {
      ties += 1;
      if (random() * ties < 1) best = replica;
    }
  }
  return best;
}
