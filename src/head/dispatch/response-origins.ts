/** Remembers which engine made which response, for as long as that engine lives. */

import type { ClusterState } from "../../cluster/state/state.ts";
import type { Origin, Origins } from "../../proxy/request/origin.ts";

interface ResponseOriginsOptions {
  state: ClusterState;
  now: () => number;
  limits?: Partial<typeof ORIGIN_LIMITS>;
}

const ORIGIN_LIMITS = {
  /** Beyond that the oldest is forgotten. */
  maxResponses: 100_000,
  maxAgeMs: 3_600_000,
};

interface Noted extends Origin {
  at: number;
}

export function createResponseOrigins(options: ResponseOriginsOptions): Origins {
  const { state, now } = options;
  const limits = { ...ORIGIN_LIMITS, ...options.limits };
  /** The oldest first. */
  const noted = new Map<string, Noted>();

  const isAlive = (run: string) => {
    for (const worker of state.workers.values()) {
      if (worker.state === "left" || worker.state === "lost") continue;
      for (const engine of worker.engines.values()) if (engine.report.run === run) return true;
    }
    return false;
  };
  const forgetOld = () => {
    for (const [id, { at }] of noted) {
      if (noted.size <= limits.maxResponses && now() - at < limits.maxAgeMs) return;
      noted.delete(id);
    }
  };
  return {
    find(id) {
      const origin = noted.get(id);
      if (!origin || now() - origin.at >= limits.maxAgeMs) return null;
      return isAlive(origin.engineRun) ? origin : null;
    },
    note(id, { engineRun, model }) {
      noted.delete(id);
      noted.set(id, { engineRun, model, at: now() });
      forgetOld();
    },
  };
}
