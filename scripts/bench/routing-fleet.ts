/** A cluster of the pure `cluster/` code in front of simulated engines, with a clock of its own. */

import { join } from "../../src/cluster/admission.ts";
import { createCatalogReader } from "../../src/cluster/catalog.ts";
import { acquire, release, started } from "../../src/cluster/dispatch.ts";
import { reportEngine, reportModels, setRoute } from "../../src/cluster/registry.ts";
import type { Router } from "../../src/cluster/routing.ts";
import { createCluster } from "../../src/cluster/state.ts";
import type { PromptFacts, Want } from "../../src/cluster/want.ts";
import { engineReport, hello } from "./routing-messages.ts";

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
    const joined = join(state, { hello: hello(i), address: "10.0.0.1" }, 0);
    if (!joined.accepted) throw new Error(joined.refusal.reason);
    const { worker } = joined;
    const change = reportEngine(state, { worker, report: engineReport(i) }, 0);
    if (!change) throw new Error("the engine was not taken");
    const models = [{ id: MODEL, parent: "", card: "" }];
    const list = { engine: "1", run: "", revision: 1, models, more: false };
    reportModels(state, { worker, list }, 0);
    setRoute(state, change.engine, { via: "direct", url: "http://127.0.0.1" });
  }
  const catalog = createCatalogReader(state);
  const context = () => ({ state, catalog: catalog(), router });
  const places = new Map((catalog().get(MODEL) ?? []).map(({ engine }, i) => [engine.key, i]));
  return {
    place(asked, at) {
      const grant = acquire(context(), wantOf(asked), at);
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

function wantOf({ prompt, session }: Asked): Want {
  return {
    model: MODEL,
    fallbacks: [],
    service: null,
    once: false,
    oneModel: false,
    kinds: null,
    worker: null,
    engineRun: null,
    minContext: null,
    exclude: [],
    prompt,
    session,
    party: "",
    bodyHash: null,
    bodyBytes: 0,
    stream: true,
    explain: false,
  };
}
