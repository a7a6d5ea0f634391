/** Leases: which request is on which replica, given out and taken back exactly once. */

import { eventOf, transition } from "../faults/breaker.ts";
import { noteRequest } from "../faults/budget.ts";
import {
  type CandidateContext,
  candidatesAmong,
  fits,
  isUsable,
  replicasFor,
} from "../state/candidates.ts";
import { waitDecision, type Refusal, refusalOf } from "./explain.ts";
import { noteBusy, noteLeased } from "../state/overload.ts";
import { deathsOf, isSuspect, noteFailed } from "../faults/poison.ts";
import type { At } from "../routing/pick.ts";
import type { Choice, Router } from "../routing/routing.ts";
import type { ClusterState, Engine, Lease, Replica, Worker } from "../state/state.ts";
import type { LeaseEnd, ReplicaRequest } from "../../protocol/replica-request.ts";

/** What decides: who is there, and where requests do best. */
export interface DispatchContext extends CandidateContext {
  router: Router;
}

/** `waits`: whether it may be granted later, and the request should wait for that. */
export type Grant =
  { granted: true; lease: Lease } | ({ granted: false; waits: boolean } & Refusal);

/** Gives a replica out, or says why there is none. */
export function acquire(context: DispatchContext, request: ReplicaRequest, at: At): Grant {
  const taken = take(context, request, at);
  if (taken !== null) return taken;
  const { waits } = waitDecision(context, request, at.now);
  return { granted: false, waits, ...refusalOf(context, request, at.now) };
}

/** Gives a replica out; null: there is none now. */
export function take(context: DispatchContext, request: ReplicaRequest, at: At): Grant | null {
  const { state, router } = context;
  const refusal = refuseOutright(context, request, at.now);
  if (refusal) return { granted: false, waits: false, ...refusal };
  const list = isolateSuspects(state, candidates(context, request, at.now), {
    request,
    now: at.now,
  });
  const choice = list.length === 0 ? null : router.choose(list, request, at);
  if (choice === null) return null;
  const lease = leaseOf(state, { choice, request, now: at.now });
  const { worker, engine } = choice.replica;
  if (request.exclude.length === 0) noteRequest(state.retries, at.now);
  state.nextLease += 1;
  state.leases.set(lease.id, lease);
  worker.inFlight += 1;
  engine.inFlight += 1;
  engine.pendingTokens += lease.missTokens;
  noteLeased(engine);
  if (engine.breaker.state !== "closed") tell(state, engine, { type: "sent", lease: lease.id }, at);
  router.sent(lease, at.now);
  return { granted: true, lease };
}

/** What no replica, however free, may have. */
function refuseOutright(
  context: DispatchContext,
  request: ReplicaRequest,
  now: number,
): Refusal | null {
  const { poison, limits } = context.state;
  if (request.bodyHash !== null) {
    const deaths = deathsOf(poison, request.bodyHash, { now, limits: limits.poison });
    if (deaths > 0) {
      const message = `${deaths} engines crashed while they worked on this same request: it is not tried again for now.`;
      return { code: "engine_crashed", message, retryAfterMs: null };
    }
  }
  if (!request.oneModel) return null;
  const models = new Set<string>();
  for (const replica of replicasFor(context, request)) {
    if (fits(replica, request) && isUsable(replica, request)) models.add(replica.card.id);
  }
  if (models.size <= 1) return null;
  const message = "Several models can answer this: name one in 'model'.";
  return { code: "bad_request", message, retryAfterMs: null };
}

/** Those of the model itself; those of a fallback only where the model has none to wait for. */
function candidates(context: DispatchContext, request: ReplicaRequest, now: number) {
  const { state } = context;
  const first = candidatesAmong(state, replicasFor(context, request), { request, now });
  if (first.usable || request.fallbacks.length === 0) return first.list;
  for (const model of request.fallbacks) {
    const replicas = replicasFor(context, request, model);
    const { list } = candidatesAmong(state, replicas, { request, now });
    if (list.length > 0) return list;
  }
  return first.list;
}

/**
 * Requests that were on an engine as it died are kept apart where there is room: one of them may
 * kill the next engine too, and the others would be struck a second time.
 */
function isolateSuspects(
  state: ClusterState,
  list: readonly Replica[],
  { request, now }: { request: ReplicaRequest; now: number },
): readonly Replica[] {
  const { poison, limits } = state;
  const how = { now, limits: limits.poison };
  if (request.bodyHash === null || poison.victims.size === 0 || list.length < 2) return list;
  if (!isSuspect(poison, request.bodyHash, how)) return list;
  const taken = new Set<string>();
  for (const { engineKey, request: other } of state.leases.values()) {
    if (other.bodyHash !== null && isSuspect(poison, other.bodyHash, how)) taken.add(engineKey);
  }
  const free = list.filter(({ engine }) => !taken.has(engine.key));
  return free.length > 0 ? free : list;
}

function leaseOf(
  state: ClusterState,
  { choice, request, now }: { choice: Choice; request: ReplicaRequest; now: number },
): Lease {
  const { worker, engine, card } = choice.replica;
  const { route } = engine;
  return {
    id: state.nextLease,
    workerId: worker.id,
    workerName: worker.name,
    workerRun: worker.run,
    engineKey: engine.key,
    engineRun: engine.report.run,
    engineKind: engine.report.kind,
    hasProcess: engine.report.pid !== null,
    model: card.id,
    url: route.via === "direct" ? route.url : null,
    engineNumber: engine.number,
    apiKey: engine.report.apiKey,
    hostHeader: engine.report.hostHeader,
    maxModelLen: card.maxModelLen,
    grantedAt: now,
    promptTokens: choice.promptTokens,
    missTokens: choice.missTokens,
    explanation: choice.explanation,
    started: false,
    progressAt: now,
    reading: true,
    readingSince: now,
    rescheduled: false,
    request,
  };
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
  if (engine) {
    engine.pendingTokens -= lease.missTokens;
    engine.progressAt = now;
    if (engine.breaker.state !== "closed" && engine.report.run === lease.engineRun) {
      tell(state, engine, ANSWERED, { now });
    }
  }
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
  noteDeath(state, lease, end);
  const worker = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return;
  worker.inFlight -= 1;
  const engine = engineOf(state, lease);
  if (!engine) return;
  engine.inFlight -= 1;
  if (!lease.started) engine.pendingTokens -= lease.missTokens;
  // What an earlier life of it did says nothing of this one.
  if (engine.report.run !== lease.engineRun) return;
  if (end.outcome === "busy") noteBusy(engine, end.retryAfterMs, end.now);
  if (end.outcome === "auth") {
    engine.refusesKey = "it rejects the API key that its worker uses";
    state.revision += 1;
  }
  const type = eventOf(end.outcome);
  if (type === "unknown") tell(state, engine, { type, lease: lease.id }, end);
  else tell(state, engine, type === "failed" ? FAILED : ANSWERED, end);
}

/** The engine may have died of this request: that may become known before or after. */
function noteDeath(state: ClusterState, lease: Lease, end: LeaseEnd & { now: number }): void {
  const hash = lease.request.bodyHash;
  // A connection that was refused has carried nothing.
  const mayHaveKilled = end.outcome === "broken" || end.outcome === "rescheduled";
  if (hash === null || !mayHaveKilled) return;
  const killer = noteFailed(
    state.poison,
    { hash, run: lease.engineRun },
    { now: end.now, limits: state.limits.poison },
  );
  if (killer) state.poison.killers.push(killer);
}

function tell(
  state: ClusterState,
  engine: Engine,
  event: Parameters<typeof transition>[1],
  { now }: { now: number },
): void {
  engine.breaker = transition(engine.breaker, event, {
    now,
    limits: state.limits.breaker,
    mayOpen: event.type === "failed" ? () => mayOpen(state, engine, now) : never,
  });
}

const ANSWERED = { type: "answered" } as const;
const FAILED = { type: "failed" } as const;
const never = () => false;

/** At most half of the ready replicas of a model may be closed to requests, and never the last. */
function mayOpen(state: ClusterState, engine: Engine, now: number): boolean {
  return offersOf(engine).every((offer) => {
    let ready = 0;
    let open = 0;
    for (const worker of state.workers.values()) {
      if (worker.state !== "ready") continue;
      for (const other of worker.engines.values()) {
        if (other.report.state !== "ready" || !offersOf(other).includes(offer)) continue;
        ready += 1;
        if (other === engine || isOpen(other, now)) open += 1;
      }
    }
    return 2 * open <= ready;
  });
}

function isOpen({ breaker }: Engine, now: number): boolean {
  return breaker.state === "open" && now < breaker.until;
}

function offersOf({ report: { service }, models }: Engine): readonly string[] {
  return service === null ? models.map(({ id }) => id) : [service];
}

function engineOf(state: ClusterState, lease: Lease): Engine | null {
  const worker: Worker | undefined = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return null;
  return worker.engines.get(lease.engineNumber) ?? null;
}
