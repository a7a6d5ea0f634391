/** Tells engines out of which nothing comes any more from those that are slow, by data alone. */

import { formatDuration } from "../../util/units.ts";
import { count } from "../../util/text.ts";
import { loadOf } from "../state/load.ts";
import type { ClusterState, Engine, Lease, Worker } from "../state/state.ts";

/** What a worker is to examine of an engine; see `Examine` in the contract. */
export interface Examination {
  worker: Worker;
  engine: Engine;
  inspect: boolean;
  ask: boolean;
}

/** An engine that is suspect from now on, or not any more. */
export interface Suspicion {
  worker: Worker;
  engine: Engine;
  isSuspect: boolean;
  /** Why it is, or why it is not any more. */
  reason: string;
}

export interface StallTick {
  suspicions: Suspicion[];
  /** Only of engines of which something is to be examined now. */
  examinations: Examination[];
}

/** Tokens a second that an engine reads of prompts, where it has not been learnt. */
const PREFILL_RATE = 15_000;
/** Times `stallAfterMs`: a request that was moved for a suspicion so recently is not moved again. */
const MOVED_FACTOR = 10;

/** The requests of one engine that the head waits for, and since when, by the longest wait. */
interface Waiting {
  count: number;
  since: number;
  /** Of those whose answer comes bit by bit. */
  streams: number;
  streamsSince: number;
  models: Set<string>;
}

/**
 * Brings every engine's `suspect` up to `now`. An engine is suspect when none of its requests has
 * made progress for the limit, and its own figures have stood still; where it has none that move
 * with every token, only streams count, since any other request is silent by nature. Time in which
 * the client takes nothing does not count. Any progress ends it.
 */
export function stallTick(state: ClusterState, now: number): StallTick {
  const waiting = waitingRequests(state, now);
  const suspicions: Suspicion[] = [];
  const examinations: Examination[] = [];
  for (const worker of state.workers.values()) {
    // What a worker that is not heard has to say about its engine is not known.
    if (!worker.connected || worker.state === "stale" || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) {
      const at = { worker, engine };
      const found = judge(state, { ...at, waiting: waiting.get(engine) ?? null }, now);
      if (found.suspicion) {
        suspicions.push({ ...at, ...found.suspicion });
        state.revision += 1;
      }
      if (found.inspect || found.ask)
        examinations.push({ ...at, inspect: found.inspect, ask: found.ask });
    }
  }
  return { suspicions, examinations };
}

/**
 * Why a request that has not started is to leave its engine for a suspicion alone; null: it is not,
 * or it has done so before. The caller makes sure that another replica can take it.
 */
export function leaveSuspect(state: ClusterState, lease: Lease, now: number): string | null {
  const engine = engineOf(state, lease);
  if (!engine?.suspect || wasMoved(state, lease)) return null;
  engine.emptiedAt = now;
  return engine.suspect.reason;
}

/** A request that stops engines must not walk through all of them. */
function wasMoved(state: ClusterState, { request, grantedAt }: Lease): boolean {
  const recentMs = state.limits.stallAfterMs * MOVED_FACTOR;
  return request.exclude.some((key) => {
    const [workerId = "", number = ""] = key.split("/");
    const at = state.workers.get(workerId)?.engines.get(number)?.emptiedAt ?? null;
    return at !== null && at <= grantedAt && grantedAt - at <= recentMs;
  });
}

function waitingRequests(state: ClusterState, now: number): Map<Engine, Waiting> {
  const found = new Map<Engine, Waiting>();
  for (const lease of state.leases.values()) {
    const engine = engineOf(state, lease);
    if (engine === null) continue;
    if (lease.started && lease.progressAt > (engine.progressAt ?? 0)) {
      engine.progressAt = lease.progressAt;
    }
    if (!lease.reading) lease.readingSince = now;
    if (!lease.reading || lease.rescheduled || lease.request.service !== null) continue;
    const since = Math.max(lease.progressAt, lease.readingSince);
    const before = found.get(engine);
    const waiting = before ?? {
      count: 0,
      since: Infinity,
      streams: 0,
      streamsSince: Infinity,
      models: new Set(),
    };
    if (!before) found.set(engine, waiting);
    waiting.count += 1;
    waiting.since = Math.min(waiting.since, since);
    waiting.models.add(lease.model);
    if (!lease.request.stream) continue;
    waiting.streams += 1;
    waiting.streamsSince = Math.min(waiting.streamsSince, since);
  }
  return found;
}

interface Judged {
  suspicion: { isSuspect: boolean; reason: string } | null;
  inspect: boolean;
  ask: boolean;
}

function judge(
  state: ClusterState,
  { worker, engine, waiting }: { worker: Worker; engine: Engine; waiting: Waiting | null },
  now: number,
): Judged {
  const isRunning = engine.report.state === "ready" || engine.report.state === "unhealthy";
  const movedAt = Math.max(engine.progressAt ?? 0, engine.flowedAt ?? 0);
  if (engine.suspect) {
    const { suspect } = engine;
    if (waiting) suspect.heldAt = now;
    const over = whyOver({ state, engine, isRunning, movedAt }, now);
    if (over === null) return { suspicion: null, inspect: true, ask: true };
    engine.suspect = null;
    return { suspicion: { isSuspect: false, reason: over }, inspect: false, ask: false };
  }
  if (!waiting || !isRunning) return NOTHING;
  // What came while the worker was away was not to be seen.
  const floor = Math.max(movedAt, worker.stateSince);
  const limitMs = limitOf(state, engine, waiting);
  const isTelling = (loadOf(state, engine, now)?.flow ?? null) !== null;
  const all = isTelling || engine.report.state === "unhealthy";
  const counted = all ? waiting.count : waiting.streams;
  const quietSince = Math.max(floor, all ? waiting.since : waiting.streamsSince);
  const quietMs = counted === 0 ? 0 : now - quietSince;
  if (counted > 0 && quietMs >= limitMs) {
    const reason = `no output for ${formatDuration(quietMs)}, with ${count(counted, "request")} waiting`;
    engine.suspect = { since: quietSince, reason, heldAt: now };
    return { suspicion: { isSuspect: true, reason }, inspect: true, ask: true };
  }
  const ask = counted > 0 && quietMs >= limitMs - state.limits.examineAheadMs;
  const inspect = !all && now - Math.max(floor, waiting.since) >= limitMs;
  return { suspicion: null, inspect, ask: ask && !inspect };
}

const NOTHING: Judged = { suspicion: null, inspect: false, ask: false };

/** Why an engine is not suspect any more; null: it still is. */
function whyOver(
  on: { state: ClusterState; engine: Engine; isRunning: boolean; movedAt: number },
  now: number,
): string | null {
  const { suspect, load } = on.engine;
  if (!suspect) return null;
  if (!on.isRunning) return `it is ${on.engine.report.state}`;
  if (on.movedAt > suspect.since) return "it produces tokens again";
  // No client asks it anything, and its worker cannot, or does not know how to: only a request can tell.
  const isAsked = (load?.failedGenerations ?? 0) > 0;
  if (isAsked || now - suspect.heldAt < on.state.limits.suspectForgetMs) return null;
  return `no request for ${formatDuration(now - suspect.heldAt)}`;
}

/** Twice what the prompts ahead should take, and the time to load a model that is not in memory. */
function limitOf(state: ClusterState, engine: Engine, { models }: Waiting): number {
  const { stallAfterMs, modelLoadMs } = state.limits;
  const prefillMs = (2000 * engine.pendingTokens) / (engine.prefillRate ?? PREFILL_RATE);
  const isLoading = engine.models.some(({ id, loaded }) => loaded === false && models.has(id));
  return stallAfterMs + prefillMs + (isLoading ? modelLoadMs : 0);
}

/** The engine of a lease, while it is in the life that the lease was given for. */
function engineOf(state: ClusterState, lease: Lease): Engine | null {
  const worker = state.workers.get(lease.workerId);
  if (worker?.run !== lease.workerRun) return null;
  const engine = worker.engines.get(lease.engineNumber);
  return engine?.report.run === lease.engineRun ? engine : null;
}
