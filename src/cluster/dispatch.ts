/** Leases: which request is on which replica, given out and taken back exactly once. */

import type { ErrorCode } from "../protocol/errors.ts";
import { type Catalog, findReplicas, type Replica } from "./catalog.ts";
import { isKnownModel } from "./registry.ts";
import type { Router } from "./routing.ts";
import { serviceCatalog } from "./services.ts";
import {
  type ClusterState,
  type Engine,
  heartbeatPlan,
  type Lease,
  type LeaseEnd,
} from "./state.ts";
import type { Want } from "./want.ts";

/** What decides: who is there, and where requests do best. */
export interface DispatchContext {
  state: ClusterState;
  catalog: Catalog;
  router: Router;
}

export type Grant =
  | { granted: true; lease: Lease }
  | { granted: false; code: ErrorCode; message: string; retryAfterMs: number | null };

/** Gives a replica out, or says why there is none. */
export function acquire(
  context: DispatchContext,
  want: Want,
  at: { now: number; random: () => number },
): Grant {
  const { state, router } = context;
  const known = replicasFor(context, want);
  const fitting = known.filter((replica) => fits(replica, want));
  const candidates = fitting.filter(
    ({ state: replica, engine }) => replica === "ready" && !want.exclude.includes(engine.key),
  );
  if (want.oneModel && new Set(candidates.map(({ card }) => card.id)).size > 1) {
    const message = "Several models can answer this: say which one by 'model'.";
    return { granted: false, code: "bad_request", message, retryAfterMs: null };
  }
  const choice = router.choose(candidates, want, at);
  const route = choice?.replica.engine.route;
  if (!choice || (route?.via !== "direct" && route?.via !== "lane")) {
    return explain({ state, known, fitting }, want, at.now);
  }
  const { worker, engine, card } = choice.replica;
  const lease: Lease = {
    id: state.nextLease,
    workerId: worker.id,
    workerName: worker.name,
    workerRun: worker.run,
    engineKey: engine.key,
    engineRun: engine.run,
    engineKind: engine.kind,
    model: card.id,
    url: route.via === "direct" ? route.url : null,
    engineNumber: engine.number,
    apiKey: engine.apiKey,
    hostHeader: engine.hostHeader,
    grantedAt: at.now,
    promptTokens: choice.promptTokens,
    missTokens: choice.missTokens,
    explanation: choice.explanation,
    started: false,
    progressAt: at.now,
    reading: true,
    recalled: false,
    want,
  };
  state.nextLease += 1;
  state.leases.set(lease.id, lease);
  worker.inFlight += 1;
  engine.inFlight += 1;
  engine.pendingTokens += lease.missTokens;
  router.sent(lease, at.now);
  return { granted: true, lease };
}

function replicasFor(
  { state, catalog }: { state: ClusterState; catalog: Catalog },
  want: Want,
): readonly Replica[] {
  if (want.service !== null) return serviceCatalog(state).get(want.service) ?? [];
  return want.model === null ? [...catalog.values()].flat() : findReplicas(catalog, want.model);
}

function fits({ worker, engine }: Replica, want: Want): boolean {
  if (want.kinds !== null && !want.kinds.includes(engine.kind)) return false;
  return want.worker === null || worker.name === want.worker || worker.id === want.worker;
}

/** The engine's first byte is here: its prompt has been read. */
export function started(
  { state, router }: Pick<DispatchContext, "state" | "router">,
  lease: Lease,
  now: number,
): void {
  if (lease.started || !state.leases.has(lease.id)) return;
  lease.started = true;
  lease.progressAt = now;
  const engine = engineOf(state, lease);
  if (engine) engine.pendingTokens -= lease.missTokens;
  router.started(lease, now);
}

/** Takes a lease back; a second time does nothing. */
export function release(
  { state, router }: Pick<DispatchContext, "state" | "router">,
  lease: Lease,
  end: LeaseEnd & { now: number },
): void {
  if (!state.leases.delete(lease.id)) return;
  router.released(lease, end);
  const worker = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return;
  worker.inFlight -= 1;
  const engine = engineOf(state, lease);
  if (!engine) return;
  engine.inFlight -= 1;
  if (!lease.started) engine.pendingTokens -= lease.missTokens;
}

function engineOf(state: ClusterState, lease: Lease): Engine | null {
  const worker = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return null;
  return worker.engines.get(lease.engineNumber) ?? null;
}

export interface Recall {
  lease: Lease;
  /** `move`: take it elsewhere, nothing is lost. `fail`: its worker is gone. */
  kind: "move" | "fail";
  reason: string;
}

/**
 * The requests that must leave the place they are at. Each is named once:
 *  * not started, on a silent or lost worker, and another replica can and may have it;
 *  * on a lost worker, and its own connection has been silent for as long;
 *  * its engine's or worker's process has ended, and its own connection did not say so meanwhile.
 */
export function recalls(context: { state: ClusterState; catalog: Catalog }, now: number): Recall[] {
  const { state } = context;
  const lostAfterMs = heartbeatPlan(state).lostAfterMs;
  const found: Recall[] = [];
  for (const lease of state.leases.values()) {
    if (lease.recalled) continue;
    const worker = state.workers.get(lease.workerId);
    const ended = state.endedRuns.get(lease.engineRun) ?? state.endedRuns.get(lease.workerRun);
    const mayMove = !lease.started && !lease.want.once && canMove(context, lease);
    if (ended !== undefined) {
      if (now - ended < state.limits.endedGraceMs) continue;
      const kind = mayMove ? "move" : "fail";
      found.push({ lease, kind, reason: `its process on ${lease.workerName} ended` });
    } else if (worker?.state === "stale" || worker?.state === "lost") {
      const reason = `worker ${lease.workerName} is ${worker.state}`;
      if (mayMove) found.push({ lease, kind: "move", reason });
      else if (worker.state === "lost" && now - lease.progressAt >= lostAfterMs) {
        found.push({ lease, kind: "fail", reason });
      }
    }
  }
  for (const recall of found) recall.lease.recalled = true;
  return found;
}

function canMove(
  context: { state: ClusterState; catalog: Catalog },
  { want, model, engineKey }: Lease,
): boolean {
  // One of any models stays with the model that it has.
  const same = want.service === null ? { ...want, model } : want;
  return replicasFor(context, same).some(
    (replica) =>
      replica.state === "ready" &&
      replica.engine.key !== engineKey &&
      !want.exclude.includes(replica.engine.key) &&
      fits(replica, want),
  );
}

/** Why no replica can be had now, as the client is told. */
function explain(
  context: { state: ClusterState; known: readonly Replica[]; fitting: readonly Replica[] },
  want: Want,
  now: number,
): Grant {
  const { state, known, fitting } = context;
  const refuse = (code: ErrorCode, message: string): Grant => {
    const retryAfterMs = code === "no_ready_replica" ? 1000 : null;
    return { granted: false, code, message, retryAfterMs };
  };
  if (want.service !== null) return refuse(...explainService({ state, fitting }, want, now));
  if (want.model === null) {
    if (fitting.length > 0)
      return refuse("no_ready_replica", `No engine can answer this now: ${reasons(fitting)}.`);
    return refuse(
      "unknown_url",
      `No engine here answers this: it is for ${(want.kinds ?? []).join(", ")}.`,
    );
  }
  const name = JSON.stringify(want.model);
  if (fitting.length > 0) {
    return refuse(
      "no_ready_replica",
      `No replica of the model ${name} can answer now: ${reasons(fitting)}.`,
    );
  }
  if (known.length > 0 && want.worker !== null) {
    return refuse("not_found", `The worker that was asked for has no model ${name}.`);
  }
  if (known.length > 0) {
    const kinds = [...new Set(known.map(({ engine }) => engine.kind))].join(", ");
    return refuse(
      "unknown_url",
      `The engines that have the model ${name} (${kinds}) do not answer this.`,
    );
  }
  if (isKnownModel(state, want.model, now)) {
    return refuse(
      "no_ready_replica",
      `The model ${name} was served before, but no worker has it now.`,
    );
  }
  if (now - state.startedAt < state.limits.settleMs) {
    const why = "the head has just started, and its workers may be on their way back";
    return refuse("no_ready_replica", `The model ${name} is not here yet: ${why}.`);
  }
  return refuse("model_not_found", `The model ${name} does not exist.`);
}

function explainService(
  { state, fitting }: { state: ClusterState; fitting: readonly Replica[] },
  { service, worker }: Want,
  now: number,
): [code: ErrorCode, message: string] {
  const name = JSON.stringify(service);
  if (fitting.length > 0) {
    return ["no_ready_replica", `The service ${name} cannot answer now: ${reasons(fitting)}.`];
  }
  const names = [...serviceCatalog(state).keys()].sort();
  if (service !== null && names.includes(service)) {
    return ["not_found", `The worker that was asked for (${worker}) has no service ${name}.`];
  }
  if (now - state.startedAt < state.limits.settleMs) {
    const why = "the head has just started, and its workers may be on their way back";
    return ["no_ready_replica", `The service ${name} is not here yet: ${why}.`];
  }
  const others = names.length > MAX_NAMES ? ", ..." : "";
  const known = names.length > 0 ? names.slice(0, MAX_NAMES).join(", ") + others : "there is none";
  return ["not_found", `There is no service ${name}; services here: ${known}.`];
}

/** Services that are named to who asked for another. */
const MAX_NAMES = 20;

function reasons(replicas: readonly Replica[]): string {
  return [...new Set(replicas.map(describe))].slice(0, 3).join("; ");
}

/** Words without worker names or addresses: clients need not know them. */
function describe(replica: Replica): string {
  switch (replica.state) {
    case "ready":
      return "the replicas that are ready have failed this request";
    case "starting":
      return replica.engine.phase ? `starting (${replica.engine.phase})` : "starting";
    case "unreachable":
      return "its worker cannot be reached";
    case "latched":
      return "busy";
    case "draining":
      return "stopping";
    case "excluded":
      return "failed";
  }
}
