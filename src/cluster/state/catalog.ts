/** Which replicas there are: models to engines, with the state that the router and people see. */

import type {
  Catalog,
  ClusterState,
  Engine,
  ModelCard,
  Replica,
  ReplicaState,
  Worker,
} from "./state.ts";

/** The catalog of a cluster, built again only when something changed. */
export function createCatalogReader(state: ClusterState): () => Catalog {
  let cached: { revision: number; catalog: Catalog } | null = null;
  return () => {
    if (cached?.revision !== state.revision) {
      cached = { revision: state.revision, catalog: buildCatalog(state) };
    }
    return cached.catalog;
  };
}

const LATEST = ":latest";

/**
 * The replicas of a model by the name that a client uses. Ollama takes a name without its tag and
 * with `:latest` for the same model, so both find it; an exact match goes first.
 */
export function findReplicas(catalog: Catalog, model: string): readonly Replica[] {
  const exact = catalog.get(model);
  if (exact) return exact;
  const other = model.endsWith(LATEST) ? model.slice(0, -LATEST.length) : `${model}${LATEST}`;
  return catalog.get(other) ?? [];
}

export function buildCatalog(state: ClusterState): Catalog {
  return catalogOf(state, replicasOf);
}

/** Every service of a worker that is there, by name: HTTP servers that serve no models. */
export function serviceCatalog(state: ClusterState): Catalog {
  return catalogOf(state, (worker, engine) => {
    const replica = serviceReplicaOf(worker, engine);
    return replica === null ? [] : [replica];
  });
}

/** By name, what the engines of all workers offer that are there, in a stable order. */
function catalogOf(
  state: ClusterState,
  offersOf: (worker: Worker, engine: Engine) => readonly Replica[],
): Catalog {
  const catalog = new Map<string, Replica[]>();
  for (const worker of state.workers.values()) {
    if (worker.state === "left" || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) {
      for (const replica of offersOf(worker, engine)) {
        const list = catalog.get(replica.card.id);
        if (list) list.push(replica);
        else catalog.set(replica.card.id, [replica]);
      }
    }
  }
  return catalog;
}

/** One that is overloaded is picked where no other is free. */
export function isServing(state: ReplicaState): boolean {
  return state === "ready" || state === "overloaded";
}

/** What nothing is known of but its name. */
const UNKNOWN_CARD = { parent: null, maxModelLen: null, loaded: null, extra: {} };

/** The models that one engine offers, or will offer once it is ready; none for a service. */
export function replicasOf(worker: Worker, engine: Engine): Replica[] {
  const { state, reason } = replicaState(worker, engine);
  return cardsOf(engine).map((card) => ({ worker, engine, card, state, reason }));
}

/** The one replica that an engine is of its service; null for an engine with models. */
export function serviceReplicaOf(worker: Worker, engine: Engine): Replica | null {
  const { service } = engine.report;
  if (service === null) return null;
  const card = { id: service, ...UNKNOWN_CARD };
  return { worker, engine, card, ...replicaState(worker, engine) };
}

function cardsOf(engine: Engine): readonly ModelCard[] {
  if (engine.report.service !== null) return [];
  if (engine.models.length > 0) return engine.models;
  return engine.report.expectedModels.map((id) => ({ id, ...UNKNOWN_CARD }));
}

function replicaState(
  worker: Worker,
  engine: Engine,
): { state: ReplicaState; reason: string | null } {
  if (worker.state === "stale" || worker.state === "lost" || worker.state === "left") {
    return { state: "unreachable", reason: `worker ${worker.state}: ${worker.reason ?? ""}` };
  }
  if (worker.state !== "ready") return { state: "draining", reason: worker.reason };
  if (engine.report.state === "ready" && engine.suspect) {
    return { state: "excluded", reason: engine.suspect.reason };
  }
  if (engine.report.state === "ready" && engine.refusesKey !== null) {
    return { state: "excluded", reason: engine.refusesKey };
  }
  switch (engine.report.state) {
    case "ready":
      break;
    case "starting":
    case "backoff":
      return { state: "starting", reason: engine.report.reason ?? engine.report.phase };
    case "stopping":
      return { state: "draining", reason: engine.report.reason };
    case "suspect":
    case "unhealthy":
    case "failed":
    case "stopped":
      return { state: "excluded", reason: engine.report.reason ?? `engine ${engine.report.state}` };
  }
  switch (engine.route.via) {
    case "direct":
    case "lane":
      return { state: "ready", reason: null };
    case "unknown":
      return { state: "starting", reason: "the head is looking for a route to the engine" };
    case "unreachable":
      return { state: "unreachable", reason: engine.route.reason };
  }
}
