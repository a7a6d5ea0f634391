/** Which replicas services have: HTTP servers that are asked for by name and serve no models. */

import { replicaState } from "./catalog.ts";
import type { Catalog, ClusterState, Engine, Replica, Worker } from "./state.ts";

/** The one replica that an engine is of its service; null for an engine with models. */
export function serviceReplicaOf(worker: Worker, engine: Engine): Replica | null {
  if (engine.report.service === null) return null;
  const card = {
    id: engine.report.service,
    parent: null,
    maxModelLen: null,
    loaded: null,
    extra: {},
  };
  return { worker, engine, card, ...replicaState(worker, engine) };
}

/** Every service of a worker that is there, by name, with its replicas in a stable order. */
export function serviceCatalog(state: ClusterState): Catalog {
  const catalog = new Map<string, Replica[]>();
  for (const worker of state.workers.values()) {
    if (worker.state === "left" || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) {
      const replica = serviceReplicaOf(worker, engine);
      if (!replica) continue;
      const list = catalog.get(replica.card.id);
      if (list) list.push(replica);
      else catalog.set(replica.card.id, [replica]);
    }
  }
  return catalog;
}
