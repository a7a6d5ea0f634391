/** What a request can hope for where no replica may have it now, and what its client is told. */

import type { ErrorCode } from "../../protocol/errors.ts";
import { findWorker } from "../state/named.ts";
import { formatDuration } from "../../util/units.ts";
import { type CandidateContext, fits, replicasFor } from "../state/candidates.ts";
import { isKnownModel } from "../state/registry.ts";
import { serviceCatalog } from "../state/catalog.ts";
import type { ClusterState, Engine, Replica } from "../state/state.ts";
import type { ReplicaRequest } from "../../protocol/replica-request.ts";

export interface Refusal {
  code: ErrorCode;
  message: string;
  retryAfterMs: number | null;
}

/** What may become of a request that waits. */
export type WaitDecision =
  | { waits: false }
  /** `until`: the time by which one that waits since then has waited long enough. */
  | { waits: true; until: (since: number) => number };

/** The replicas of all models that will do, in three sieves. */
interface Scene {
  known: readonly Replica[];
  /** Of these, those that can answer this at all. */
  fitting: readonly Replica[];
  /** Of these, those that have not failed this very request. */
  left: readonly Replica[];
}

function sceneOf(context: CandidateContext, request: ReplicaRequest): Scene {
  const known = modelsOf(request).flatMap((model) => replicasFor(context, request, model));
  const fitting = known.filter((replica) => fits(replica, request));
  const left = fitting.filter(({ engine }) => !request.exclude.includes(engine.key));
  return { known, fitting, left };
}

/** The model that is asked for, and those that will do in its place. */
export function modelsOf({ model, fallbacks }: ReplicaRequest): readonly (string | null)[] {
  return fallbacks.length === 0 ? [model] : [model, ...fallbacks];
}

/** Whether a request without a replica may wait for one, and how long. */
export function waitDecision(
  context: CandidateContext,
  request: ReplicaRequest,
  now: number,
): WaitDecision {
  const { state } = context;
  const { limits } = state;
  const scene = sceneOf(context, request);
  if (!isWorthWaiting(state, { scene, request, now })) return { waits: false };
  let waitMs = limits.queueTimeoutMs;
  let movedAt = Number.NEGATIVE_INFINITY;
  for (const { engine, card, state: replica } of scene.left) {
    if (replica !== "starting" || engine.report.state === "ready") continue;
    const loadMs = loadTimeOf(state, engine, card.id);
    if (loadMs !== null) waitMs = Math.max(waitMs, loadMs + limits.queueTimeoutMs);
    else movedAt = Math.max(movedAt, engine.startMovedAt ?? movedAt);
  }
  return {
    waits: true,
    // A start of unknown length that goes on is waited for, but not for ever.
    until: (since) =>
      Math.max(
        since + waitMs,
        Math.min(movedAt + limits.queueTimeoutMs, since + limits.maxStartWaitMs),
      ),
  };
}

/** How long the engine takes until it is ready, as far as that was seen; null: it was not. */
function loadTimeOf(state: ClusterState, engine: Engine, model: string): number | null {
  return engine.loadMs ?? state.loadTimes.get(model) ?? null;
}

function isWorthWaiting(
  state: ClusterState,
  { scene, request, now }: { scene: Scene; request: ReplicaRequest; now: number },
): boolean {
  const { known, fitting, left } = scene;
  if (left.length > 0) return left.some(canRecover);
  // What failed it was all there is, or nothing else can have it.
  if (fitting.length > 0 || request.engineRun !== null || request.minContext !== null) return false;
  const settling = now - state.startedAt < state.limits.settleMs;
  if (request.worker !== null && !isThere(state, request.worker)) {
    return settling || findWorker(state, request.worker) !== null;
  }
  if (known.length > 0) return false;
  if (settling) return true;
  if (request.service !== null) return wasOffered(state, request.service);
  return modelsOf(request).some((model) => model !== null && isKnownModel(state, model, now));
}

/** Whether it may be ready soon without a person's help. */
function canRecover({ engine }: Replica): boolean {
  return (
    engine.refusesKey === null &&
    engine.report.state !== "failed" &&
    engine.report.state !== "stopped"
  );
}

/** Whether the worker's session is there, so that what it does not have it will not have soon. */
function isThere(state: ClusterState, name: string): boolean {
  const worker = findWorker(state, name);
  return worker !== null && worker.state !== "lost" && worker.state !== "left";
}

/** Whether a worker that is gone, and may come back, has offered the service. */
function wasOffered(state: ClusterState, service: string): boolean {
  for (const { engines } of state.workers.values()) {
    for (const engine of engines.values()) if (engine.report.service === service) return true;
  }
  return false;
}

/** Why no replica can be had now, as the client is told. */
export function refusalOf(
  context: CandidateContext,
  request: ReplicaRequest,
  now: number,
): Refusal {
  const { state } = context;
  const scene = sceneOf(context, request);
  const { known, fitting, left } = scene;
  const refuse = (code: ErrorCode, message: string): Refusal => ({
    code,
    message,
    retryAfterMs: code === "no_ready_replica" ? retryAfterMs(state, left, now) : null,
  });
  const why =
    left.length > 0 ? reasons(left, now) : "the replicas that are ready have failed this request";
  if (left.length > 0 && left.every(({ engine }) => engine.refusesKey !== null)) {
    return refuse("upstream_auth", "The engine rejected the API key that its worker uses.");
  }
  if (request.service !== null) {
    return refuse(...explainService({ state, fitting, why }, request, now));
  }
  if (request.model === null) {
    if (fitting.length > 0)
      return refuse("no_ready_replica", `No engine can answer this now: ${why}.`);
    return refuse(
      "unknown_url",
      `No engine in this cluster supports this request; engine kinds that do: ${(request.kinds ?? []).join(", ")}.`,
    );
  }
  const name = JSON.stringify(request.model);
  if (fitting.length > 0) {
    return refuse("no_ready_replica", `No replica of the model ${name} can answer now: ${why}.`);
  }
  if (known.length > 0 && request.worker !== null) {
    return refuse("not_found", `The requested worker does not serve the model ${name}.`);
  }
  if (known.length > 0 && request.minContext !== null) {
    const message = `No replica of the model ${name} has a longer context.`;
    return refuse("no_ready_replica", message);
  }
  if (known.length > 0 && request.engineRun !== null) {
    return refuse("not_found", "The engine that this request needs is no longer running.");
  }
  if (known.length > 0) {
    const kinds = [...new Set(known.map(({ engine }) => engine.report.kind))].join(", ");
    return refuse(
      "unknown_url",
      `The engines that serve the model ${name} (${kinds}) do not support this request.`,
    );
  }
  if (isKnownModel(state, request.model, now)) {
    return refuse(
      "no_ready_replica",
      `The model ${name} was served before, but no worker serves it now.`,
    );
  }
  if (now - state.startedAt < state.limits.settleMs) {
    const soon = "the head has just started, and its workers may still be reconnecting";
    return refuse("no_ready_replica", `The model ${name} is not available yet: ${soon}.`);
  }
  return refuse("model_not_found", `The model ${name} does not exist.`);
}

function explainService(
  { state, fitting, why }: { state: ClusterState; fitting: readonly Replica[]; why: string },
  { service, worker }: ReplicaRequest,
  now: number,
): [code: ErrorCode, message: string] {
  const name = JSON.stringify(service);
  if (fitting.length > 0) {
    return ["no_ready_replica", `The service ${name} cannot answer now: ${why}.`];
  }
  const names = [...serviceCatalog(state).keys()].sort();
  if (service !== null && names.includes(service)) {
    return ["not_found", `The requested worker (${worker}) does not offer the service ${name}.`];
  }
  if (service !== null && wasOffered(state, service)) {
    return [
      "no_ready_replica",
      `The service ${name} was offered before, but no worker offers it now.`,
    ];
  }
  if (now - state.startedAt < state.limits.settleMs) {
    const soon = "the head has just started, and its workers may still be reconnecting";
    return ["no_ready_replica", `The service ${name} is not available yet: ${soon}.`];
  }
  const others = names.length > MAX_NAMES ? ", ..." : "";
  const known = names.length > 0 ? names.slice(0, MAX_NAMES).join(", ") + others : "there is none";
  return ["not_found", `There is no service ${name}; available services: ${known}.`];
}

/** Services that are named to who asked for another. */
const MAX_NAMES = 20;
const RETRY_AFTER_MS = 1000;
const MAX_RETRY_AFTER_MS = 60_000;

/** What is left of the start that ends first; a second where that is not known. */
function retryAfterMs(state: ClusterState, replicas: readonly Replica[], now: number): number {
  let shortest = Number.POSITIVE_INFINITY;
  for (const { engine, card } of replicas) {
    const loadMs = loadTimeOf(state, engine, card.id);
    if (loadMs === null || engine.startingSince === null) continue;
    shortest = Math.min(shortest, engine.startingSince + loadMs - now);
  }
  if (shortest === Number.POSITIVE_INFINITY) return RETRY_AFTER_MS;
  return Math.min(MAX_RETRY_AFTER_MS, Math.max(RETRY_AFTER_MS, shortest));
}

function reasons(replicas: readonly Replica[], now: number): string {
  return [...new Set(replicas.map((replica) => describe(replica, now)))].slice(0, 3).join("; ");
}

/** Words without worker names or addresses: clients need not know them. */
function describe({ state, engine }: Replica, now: number): string {
  switch (state) {
    case "ready":
      if (engine.breaker.state !== "closed") return "too many of its requests failed recently";
      return "busy";
    case "starting":
      return describeStart(engine, now);
    case "unreachable":
      return "its worker is unreachable";
    case "overloaded":
      return "busy";
    case "draining":
      return "stopping";
    case "excluded":
      if (engine.refusesKey !== null) return "it rejects the API key that its worker uses";
      return engine.suspect === null ? "failed" : "it produces no output";
  }
}

function describeStart(engine: Engine, now: number): string {
  const phase = engine.report.phase === null ? "starting" : `starting (${engine.report.phase})`;
  const ageMs = engine.startingSince === null ? 0 : now - engine.startingSince;
  return ageMs < 1000 ? phase : `${phase} for ${formatDuration(ageMs)}`;
}
