/** A cluster of the pure `cluster/` code in front of simulated engines, with a clock of its own. */

import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { acquire, release, started } from "../../../src/cluster/dispatch/dispatch.ts";
import type { Router } from "../../../src/cluster/routing/routing.ts";
import { createCluster } from "../../../src/cluster/state/state.ts";
import type { PromptFacts } from "../../../src/protocol/replica-request.ts";
import { addWorker, request } from "../../../test/cluster/fixtures.ts";

export const MODEL = "sim";

export interface Placed {
  /** The place of its engine among all. */
  engine: number;
  started(now: number): void;
  ended(now: number, used: { promptTokens: number; cachedTokens: number } | null): void;
}

export interface Fleet {
  place(asked: Asked, at: { now: number; random: () => number }): Placed;
}

export interface Asked {
  prompt: PromptFacts | null;
  session: string | null;
}

/** So many workers with one engine each, all with the same model, ready and never full. */
export function createFleet(size: number, router: Router): Fleet {
  const state = createCluster(0, { maxWorkers: size, maxInFlight: Number.MAX_SAFE_INTEGER });
  for (let i = 0; i < size; i += 1) {
    addWorker(state, String(i), { models: [MODEL], now: 0 });
  }
  const catalog = createCatalogReader(state);
  const context = () => ({ state, catalog: catalog(), router });
  const places = new Map((catalog().get(MODEL) ?? []).map(({ engine }, i) => [engine.key, i]));
  return {
    place(asked, at) {
      const grant = acquire(context(), request(MODEL, { ...asked, stream: true }), at);
      if (!grant.granted) throw new Error(grant.message);
      const { lease } = grant;
      return {
        engine: places.get(lease.engineKey) ?? 0,
        started: (now) => started(context(), lease, now),
        ended(now, used) {
          const { promptTokens, cachedTokens } = used ?? { promptTokens: null, cachedTokens: null };
          const end = { outcome: "ok", promptTokens, cachedTokens, retryAfterMs: null } as const;
          release(context(), lease, { ...end, now });
        },
      };
    },
  };
}
