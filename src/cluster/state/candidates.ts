/** Which replicas may have a request now, and which of them come first. */

import { heartbeatPlan } from "./limits.ts";
import { isCalled } from "./named.ts";
import { admits } from "../faults/breaker.ts";
import { findReplicas, serviceCatalog } from "./catalog.ts";
import { isBusy, isOverloaded } from "./overload.ts";
import type { Catalog, ClusterState, Engine, Offers, Replica, ReplicaState } from "./state.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";

/** What decides: who is there. */
export interface CandidateContext {
  state: ClusterState;
  catalog: Catalog;
}

/** The replicas of what is wanted by its own name; `model` is one of its models. */
export function replicasFor(
  context: CandidateContext,
  request: ReplicaRequest,
  model: string | null = request.model,
): readonly Replica[] {
  if (request.service !== null) return offersOf(context).services.get(request.service) ?? [];
  return model === null ? offersOf(context).all : findReplicas(context.catalog, model);
}

function offersOf({ state, catalog }: CandidateContext): Offers {
  const known = state.offers;
  if (known?.catalog === catalog && known.revision === state.revision) return known;
  const services = serviceCatalog(state);
  const all = [...catalog.values()].flat();
  state.offers = { catalog, revision: state.revision, services, all };
  return state.offers;
}

/** Whether the replica can answer this at all, whatever its state. */
export function fits({ worker, engine, card }: Replica, request: ReplicaRequest): boolean {
  if (request.kinds !== null && !request.kinds.includes(engine.report.kind)) return false;
  if (request.engineRun !== null && engine.report.run !== request.engineRun) return false;
  if (request.minContext !== null && (card.maxModelLen ?? 0) <= request.minContext) return false;
  return request.worker === null || isCalled(worker, request.worker);
}

/** The replica's state as people see it: also what holds for a while only. */
export function effectiveState(
  state: ClusterState,
  replica: Replica,
  now: number,
): { state: ReplicaState; reason: string | null } {
  const { engine, reason } = replica;
  if (replica.state !== "ready") return { state: replica.state, reason };
  if (!admits(engine.breaker, now)) {
    return { state: "excluded", reason: "too many of its requests failed recently" };
  }
  const { loadMaxAgeMs } = heartbeatPlan(state);
  if (isBusy(engine, now) || isOverloaded(engine, { now, loadMaxAgeMs })) {
    return { state: "overloaded", reason: "it is overloaded" };
  }
  return { state: "ready", reason: null };
}

/** Whether a replica is there to answer, however much it has to do. */
export function isUsable({ state, engine }: Replica, request: ReplicaRequest): boolean {
  return (
    state === "ready" &&
    engine.suspect === null &&
    engine.refusesKey === null &&
    (request.exclude.length === 0 || !request.exclude.includes(engine.key))
  );
}

export interface Candidates {
  /** Those that may have it now and among which to choose. */
  list: readonly Replica[];
  /** Whether some replica is there for it, though none may have it now. */
  usable: boolean;
}

/** In the order in which they are tried. */
const RANK = { free: 0, overloaded: 1, tight: 2, tightOverloaded: 3, open: 4 };
const NONE: readonly Replica[] = [];

/**
 * The best of these: those that are not overloaded go first, and before all others those whose context
 * the request fits as far as one can tell. An open breaker counts only while another replica has a
 * closed one.
 */
export function candidatesAmong(
  state: ClusterState,
  replicas: readonly Replica[],
  { request, now }: { request: ReplicaRequest; now: number },
): Candidates {
  const { loadMaxAgeMs } = heartbeatPlan(state);
  const tokens = tokensOf(request);
  let best = Number.POSITIVE_INFINITY;
  let list: Replica[] | null = null;
  let usable = false;
  let closed = false;
  for (const replica of replicas) {
    const { engine, card } = replica;
    if (replica.state !== "ready" || !fits(replica, request)) continue;
    const isClosed = admits(engine.breaker, now);
    closed ||= isClosed && engine.suspect === null && engine.refusesKey === null;
    if (!isUsable(replica, request)) continue;
    usable ||= isClosed;
    if (engine.inFlight >= roomOf(state, engine)) continue;
    if (isBusy(engine, now)) continue;
    let rank = RANK.free;
    if (isOverloaded(engine, { now, loadMaxAgeMs })) rank = RANK.overloaded;
    if (card.maxModelLen !== null && tokens > card.maxModelLen) rank += RANK.tight;
    if (!isClosed) rank = RANK.open;
    if (rank > best) continue;
    if (list === null || rank < best) list = [replica];
    else list.push(replica);
    best = rank;
  }
  if (best === RANK.open && closed) return { list: NONE, usable };
  return { list: list ?? NONE, usable: usable || list !== null };
}

/** Requests that the engine may have at once. */
function roomOf({ limits }: ClusterState, { report: { maxInFlight }, route }: Engine): number {
  const most = maxInFlight ?? limits.maxInFlight;
  // Each needs a lane of its own there: better to wait for another replica than for a lane.
  return route.via === "lane" ? Math.min(most, limits.maxByLane) : most;
}

/**
 * What the request may need of a context, in tokens, by the roughest of estimates: no request is
 * refused for it. 0: nothing is known.
 */
function tokensOf({ prompt }: ReplicaRequest): number {
  if (prompt === null || prompt.maxTokens === null) return 0;
  return prompt.bytes / BYTES_PER_TOKEN + prompt.maxTokens;
}

const BYTES_PER_TOKEN = 4;
