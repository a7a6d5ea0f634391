/** Names of models seen in the last hour, kept in the store: after a restart they are waited for. */

import { remember } from "../../cluster/state/registry.ts";
import type { ClusterState } from "../../cluster/state/state.ts";
import type { Store } from "./store.ts";

const PREFIX = "models/";

/** Takes the names of an earlier life of the head into the state. */
export function loadKnownModels(
  state: ClusterState,
  { store, now }: { store: Store; now: number },
): void {
  const seen = store.list(PREFIX).flatMap(({ key, value }) => {
    // The clock may have been set back meanwhile.
    const at = typeof value === "number" ? Math.min(value, now) : 0;
    return now - at <= state.limits.knownModelMs ? [{ id: key.slice(PREFIX.length), at }] : [];
  });
  // The map is sorted by age, as `remember` keeps it.
  seen.sort((a, b) => a.at - b.at);
  for (const { id, at } of seen.slice(-state.limits.maxKnownModels)) state.knownModels.set(id, at);
}

export interface KnownModelsOptions {
  state: ClusterState;
  store: Store;
  now: () => number;
  /** How often is looked for what is new. */
  everyMs: number;
  /** A name in the store is at most this much older than when it was seen last. */
  refreshMs: number;
}

/** Keeps the store up to date, behind what happens: a head that is killed loses the last moments. */
export function keepKnownModels(options: KnownModelsOptions): Disposable {
  const { state, store, refreshMs } = options;
  const behind = { durable: false };
  let revision = -1;
  let refreshedAt = Number.NEGATIVE_INFINITY;
  const sync = () => {
    const now = options.now();
    if (revision === state.revision && now - refreshedAt < refreshMs) return;
    revision = state.revision;
    refreshedAt = now;
    // A model that is served is seen all the time, also while nothing is said about it.
    for (const worker of state.workers.values()) {
      if (worker.state === "left" || worker.state === "lost") continue;
      for (const engine of worker.engines.values()) remember(state, engine.models, now);
    }
    for (const [id, at] of state.knownModels) {
      const stored = store.get(PREFIX + id)?.value;
      const isFresh = typeof stored === "number" && at - stored < refreshMs && stored <= now;
      if (!isFresh) void store.put(PREFIX + id, at, behind);
    }
    for (const { key } of store.list(PREFIX)) {
      const at = state.knownModels.get(key.slice(PREFIX.length));
      if (at !== undefined && now - at <= state.limits.knownModelMs) continue;
      void store.delete(key, behind);
    }
  };
  const timer = setInterval(sync, options.everyMs);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      sync();
    },
  };
}
