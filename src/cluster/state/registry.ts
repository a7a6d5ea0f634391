/** What each worker said last; the session layer feeds it. */

import type { EngineReport, Goodbye, Model, ModelList } from "../../protocol/messages.ts";
import { isServiceName } from "../../protocol/service-name.ts";
import { cleanLine } from "../../util/text.ts";
import { newRunFacts, noteRun } from "./engine-runs.ts";
import type { ClusterState, Engine, EngineState, ModelCard, Route, Worker } from "./state.ts";

/** The worker of a session, or null when the session is not the one that counts. */
export function workerOf(
  state: ClusterState,
  session: { workerId: string; session: number },
): Worker | null {
  const worker = state.workers.get(session.workerId);
  return worker && worker.session === session.session ? worker : null;
}

/** Any message is a sign of life. */
export function heard(worker: Worker, now: number): void {
  worker.lastHeardAt = now;
}

/** The session ended, in whatever way. */
export function disconnect(state: ClusterState, worker: Worker): void {
  worker.connected = false;
  state.revision += 1;
}

export function goodbye(state: ClusterState, worker: Worker, message: Goodbye): void {
  worker.drain = message.reason || "the worker is stopping";
  worker.left ||= message.left;
  state.revision += 1;
}

export interface EngineChange {
  engine: Engine;
  /** Whether it is in another state or another run than before. */
  stateChanged: boolean;
  /** Whether the head must find out anew how to reach it. */
  routeStale: boolean;
}

/** Engines are counted by their worker; the number becomes a part of keys and of what is shown. */
const ENGINE_NUMBER = /^[1-9]\d{0,3}$/;

/** Takes an engine's state over; null when it has no sound number, or is one too many. */
export function reportEngine(
  state: ClusterState,
  where: { worker: Worker; report: EngineReport },
  now: number,
): EngineChange | null {
  const { worker, report } = where;
  const known = worker.engines.get(report.engine);
  if (!known && worker.engines.size >= state.limits.maxEnginesPerWorker) return null;
  if (!ENGINE_NUMBER.test(report.engine)) return null;
  const engine: Engine = known ?? {
    key: `${worker.id}/${report.engine}`,
    number: report.engine,
    run: report.run,
    kind: report.kind,
    service: null,
    state: "starting",
    phase: null,
    reason: null,
    stateSince: now,
    port: null,
    https: false,
    loopbackOnly: null,
    advertise: null,
    apiKey: null,
    restarts: 0,
    pid: null,
    adopted: false,
    container: null,
    expectedModels: [],
    maxInFlight: null,
    gpusWanted: null,
    hostHeader: null,
    load: null,
    gpus: [],
    failure: null,
    hint: null,
    evidence: [],
    phaseSince: null,
    models: [],
    pages: null,
    route: { via: "unknown" },
    inFlight: 0,
    pendingTokens: 0,
    prefillRate: null,
    progressAt: null,
    flowedAt: null,
    suspect: null,
    emptiedAt: null,
    // Known from the start, so that the first one shows as an increase.
    restartReasons: new Map([
      ["crash", 0],
      ["stalled", 0],
    ]),
    ...newRunFacts(now),
  };
  const next = stateFromWire(report.state);
  const phase = cleanLine(report.phase, 100) || null;
  const isAnother = known !== undefined && known.run !== "" && known.run !== report.run;
  const hasEnded = noteRun(state, { engine, report: { ...report, state: next, phase } }, now);
  if ((isAnother || hasEnded) && !state.endedRuns.has(engine.run)) endRun(state, engine.run, now);
  const stateChanged = !known || known.state !== next || known.run !== report.run;
  const routeStale =
    next === "ready" &&
    (!known ||
      known.state !== "ready" ||
      known.run !== report.run ||
      known.port !== (report.port || null) ||
      known.advertise !== (report.advertise || null) ||
      known.loopbackOnly !== (report.loopbackOnly ?? null));
  if (isAnother) {
    engine.route = { via: "unknown" };
    engine.load = null;
    engine.progressAt = null;
    engine.flowedAt = null;
    engine.suspect = null;
  }
  engine.run = report.run;
  engine.kind = cleanLine(report.kind, 32);
  engine.service = isServiceName(report.service) ? report.service : null;
  engine.state = next;
  engine.phase = phase;
  engine.reason = cleanLine(report.reason, 500) || null;
  engine.stateSince = now - Math.max(0, report.sinceMs);
  engine.port = report.port || null;
  engine.https = report.https;
  engine.loopbackOnly = report.loopbackOnly ?? null;
  engine.advertise = report.advertise || null;
  engine.apiKey = report.apiKey || null;
  noteRestarts(engine, report);
  engine.restarts = report.restarts;
  engine.pid = report.pid || null;
  engine.adopted = report.adopted;
  engine.container = cleanLine(report.container, 128) || null;
  engine.expectedModels = engine.service ? [] : report.expectedModels.filter(isSoundName);
  engine.maxInFlight = report.maxInFlight ?? null;
  engine.gpusWanted = report.gpusWanted || null;
  engine.hostHeader = isHostHeader(report.hostHeader) ? report.hostHeader : null;
  engine.gpus = report.gpus.slice(0, MAX_GPUS).map((uuid) => cleanLine(uuid, 100));
  engine.failure = cleanLine(report.failure, 32) || null;
  engine.hint = cleanLine(report.hint, 500) || null;
  engine.evidence = report.evidence.slice(-MAX_EVIDENCE).map((line) => cleanLine(line, 500));
  engine.phaseSince = engine.phase === null ? null : now - Math.max(0, report.phaseMs);
  worker.engines.set(report.engine, engine);
  remember(state, engine.models, now);
  state.revision += 1;
  return { engine, stateChanged, routeStale };
}

/** The word for why it ended holds until it is ready again. */
function noteRestarts({ restarts, restartReasons, failure }: Engine, report: EngineReport): void {
  const more = report.restarts - restarts;
  if (more <= 0) return;
  const word = cleanLine(report.failure, 32) || failure || "unknown";
  const isOne = restartReasons.has(word) || restartReasons.size < MAX_RESTART_REASONS;
  const reason = isOne ? word : "other";
  restartReasons.set(reason, (restartReasons.get(reason) ?? 0) + more);
}

/** Takes a page of an engine's models; false when the list is longer than is allowed. */
export function reportModels(
  state: ClusterState,
  where: { worker: Worker; list: ModelList },
  now: number,
): boolean {
  const { worker, list } = where;
  const engine = worker.engines.get(list.engine);
  if (!engine || engine.service !== null) return true;
  if (engine.pages?.revision !== list.revision) {
    engine.pages = { revision: list.revision, models: [] };
  }
  engine.pages.models.push(...list.models.filter(({ id }) => isSoundName(id)).map(cardOf));
  const others = [...worker.engines.values()].filter((other) => other !== engine);
  const count = others.reduce(
    (sum, other) => sum + other.models.length,
    engine.pages.models.length,
  );
  if (count > state.limits.maxModelsPerWorker) {
    engine.pages = null;
    return false;
  }
  if (list.more) return true;
  remember(state, engine.models, now);
  engine.models = engine.pages.models;
  engine.pages = null;
  remember(state, engine.models, now);
  state.revision += 1;
  return true;
}

export function setRoute(state: ClusterState, engine: Engine, route: Route): void {
  engine.route = route;
  state.revision += 1;
}

/** Notes that a process ended; what it still had to do is rescheduled by dispatch. */
export function endRun(state: ClusterState, run: string, now: number): void {
  state.endedRuns.set(run, now);
  for (const [ended, at] of state.endedRuns) {
    if (now - at < 10 * state.limits.endedGraceMs) break;
    state.endedRuns.delete(ended);
  }
}

/** Forgets a worker that is gone. */
export function forget(state: ClusterState, worker: Worker): void {
  state.workers.delete(worker.id);
  state.revision += 1;
}

/** Whether a model was there within the last hour or is named by an engine that starts. */
export function isKnownModel(state: ClusterState, model: string, now: number): boolean {
  const seen = state.knownModels.get(model);
  if (seen !== undefined && now - seen <= state.limits.knownModelMs) return true;
  for (const worker of state.workers.values()) {
    if (worker.left || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) {
      if (engine.expectedModels.includes(model)) return true;
    }
  }
  return false;
}

/** Keeps `models` known for an hour from now; called when they come, go, or may go. */
export function remember(state: ClusterState, models: Iterable<ModelCard>, now: number): void {
  for (const { id } of models) {
    state.knownModels.delete(id);
    state.knownModels.set(id, now);
  }
  // The map keeps insertion order, so that its first keys are those seen longest ago.
  for (const model of state.knownModels.keys()) {
    if (state.knownModels.size <= state.limits.maxKnownModels) break;
    state.knownModels.delete(model);
  }
}

/** A model is asked for by its exact name, so that one which cannot be shown as it is cannot be. */
function isSoundName(id: string): boolean {
  return id !== "" && cleanLine(id, 512) === id;
}

/** It goes into a request as it stands. */
function isHostHeader(text: string): boolean {
  return text.length <= 300 && /^[\w.[\]:-]+$/.test(text);
}

function cardOf(model: Model): Engine["models"][number] {
  return {
    id: model.id,
    parent: model.parent || null,
    maxModelLen: model.maxModelLen ?? null,
    loaded: model.loaded ?? null,
    extra: extraOf(model.card),
  };
}

const MAX_CARD_CHARS = 2048;
/** GPUs that are kept of an engine. */
const MAX_GPUS = 64;
/** Reasons that its restarts are told apart by. */
const MAX_RESTART_REASONS = 32;
/** Lines of evidence that are kept of an engine. */
const MAX_EVIDENCE = 8;

function extraOf(card: string): Record<string, unknown> {
  if (card === "" || card.length > MAX_CARD_CHARS) return {};
  try {
    const value: unknown = JSON.parse(card);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
  } catch {
    // A worker that sends what is no JSON loses its extras, not its model.
    return {};
  }
}

const STATES: Record<string, EngineState> = {
  STARTING: "starting",
  READY: "ready",
  SUSPECT: "suspect",
  UNHEALTHY: "unhealthy",
  STOPPING: "stopping",
  BACKOFF: "backoff",
  FAILED: "failed",
  STOPPED: "stopped",
};

/** A state that a newer worker has and this head does not know takes no requests. */
function stateFromWire(state: EngineReport["state"]): EngineState {
  return STATES[String(state)] ?? "unhealthy";
}
