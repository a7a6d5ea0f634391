/** What each worker reported last; the session layer feeds it. */

import {
  type EngineReport,
  isSoundName,
  readReport,
  unknownReport,
  type WireEngineReport,
} from "../../protocol/engine-report.ts";
import type { Goodbye, Model, ModelList } from "../../protocol/messages.ts";
import { fieldsIn } from "../../util/json.ts";
import { newRunFacts, noteRun } from "./engine-runs.ts";
import type { ClusterState, Engine, ModelCard, Route, Worker } from "./state.ts";

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

/** The session ended, for any reason. */
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
  /** Whether the head must find out again how to reach it. */
  routeStale: boolean;
}

/** Engines are counted by their worker; the number becomes a part of keys and of what is shown. */
const ENGINE_NUMBER = /^[1-9]\d{0,3}$/;

/** Takes an engine's state over; null when it has no sound number, or is one too many. */
export function reportEngine(
  state: ClusterState,
  where: { worker: Worker; report: WireEngineReport },
  now: number,
): EngineChange | null {
  const { worker } = where;
  const number = where.report.engine;
  const known = worker.engines.get(number);
  if (!known && worker.engines.size >= state.limits.maxEnginesPerWorker) return null;
  if (!ENGINE_NUMBER.test(number)) return null;
  const report = readReport(where.report, now);
  const engine = known ?? newEngine(worker, number, now);
  const { report: before } = engine;
  const isAnother = before.run !== "" && before.run !== report.run;
  const hasEnded = noteRun(state, { engine, report }, now);
  if ((isAnother || hasEnded) && !state.endedRuns.has(before.run)) endRun(state, before.run, now);
  if (isAnother) {
    engine.route = { via: "unknown" };
    engine.load = null;
    engine.progressAt = null;
    engine.flowedAt = null;
    engine.suspect = null;
  }
  noteRestarts(engine, report);
  engine.report = report;
  worker.engines.set(number, engine);
  remember(state, engine.models, now);
  state.revision += 1;
  const isNew = !known || before.state !== report.state || before.run !== report.run;
  const isMoved =
    before.port !== report.port ||
    before.advertise !== report.advertise ||
    before.loopbackOnly !== report.loopbackOnly;
  return {
    engine,
    stateChanged: isNew,
    routeStale: report.state === "ready" && (isNew || isMoved),
  };
}

/** One of which nothing is known yet. */
function newEngine(worker: Worker, number: string, now: number): Engine {
  return {
    key: `${worker.id}/${number}`,
    number,
    report: unknownReport(now),
    load: null,
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
}

/** The word for why it ended holds until it is ready again. */
function noteRestarts({ restartReasons, report: before }: Engine, report: EngineReport): void {
  const more = report.restarts - before.restarts;
  if (more <= 0) return;
  const word = report.failure ?? before.failure ?? "unknown";
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
  if (!engine || engine.report.service !== null) return true;
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
  // Requests that waited for a load begin to be worked on with its end.
  if (hasLoaded(engine.models, engine.pages.models)) engine.flowedAt = now;
  engine.models = engine.pages.models;
  engine.pages = null;
  remember(state, engine.models, now);
  state.revision += 1;
  return true;
}

/** Whether a model that was not in memory is there now. */
function hasLoaded(before: readonly ModelCard[], after: readonly ModelCard[]): boolean {
  const waiting = new Set<string>();
  for (const { id, loaded } of before) if (loaded === false) waiting.add(id);
  return waiting.size > 0 && after.some(({ id, loaded }) => loaded === true && waiting.has(id));
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
      if (engine.report.expectedModels.includes(model)) return true;
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
/** Reasons that its restarts are counted by. */
const MAX_RESTART_REASONS = 32;

function extraOf(card: string): Record<string, unknown> {
  if (card === "" || card.length > MAX_CARD_CHARS) return {};
  try {
    const value: unknown = JSON.parse(card);
    return fieldsIn(value);
  } catch {
    // A worker that sends what is no JSON loses its extras, not its model.
    return {};
  }
}
