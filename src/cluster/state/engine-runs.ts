/** What the run of an engine's process means for the requests that it may have. */

import { newBreaker, transition } from "../faults/breaker.ts";
import { newOverload } from "./overload.ts";
import { noteCrash } from "../faults/poison.ts";
import type { EngineReport, EngineState } from "../../protocol/engine-report.ts";
import type { ClusterState, Engine } from "./state.ts";

/** The fields of an engine that are about its process, for one that was not known before. */
export function newRunFacts(now: number): Pick<Engine, RunFact> {
  return {
    breaker: newBreaker(now),
    overload: newOverload(),
    refusesKey: null,
    startingSince: null,
    startMovedAt: null,
    loadMs: null,
  };
}

type RunFact = "breaker" | "overload" | "refusesKey" | "startingSince" | "startMovedAt" | "loadMs";

const UP: ReadonlySet<EngineState> = new Set(["starting", "ready", "suspect", "unhealthy"]);
const DOWN: ReadonlySet<EngineState> = new Set(["backoff", "failed"]);
/** Longer starts than this say nothing of the next one. */
const MAX_LOAD_MS = 3_600_000;
const MAX_LOAD_TIMES = 4096;

/**
 * Answers whether the process has ended since the last report, other than on an operator's word. The
 * engine itself is still as it was before.
 */
export function noteRun(
  state: ClusterState,
  { engine, report }: { engine: Engine; report: EngineReport },
  now: number,
): boolean {
  const { limits } = state;
  const { report: before } = engine;
  const isSame = before.run === report.run;
  const hasProcess = before.pid !== null && before.run !== "";
  // One that was stopped on purpose was "stopping" first. Without a process here this is not known.
  const ended = hasProcess && UP.has(before.state) && (!isSame || DOWN.has(report.state));
  const context = { now, limits: limits.breaker, mayOpen: () => true };
  if (ended) engine.breaker = transition(engine.breaker, { type: "crashed" }, context);
  // One that was stalled has been ended by its worker: that is no request's doing.
  if (ended && report.failure !== "stalled") {
    const killers = noteCrash(state.poison, before.run, { now, limits: limits.poison });
    state.poison.killers.push(...killers);
  }
  if (!isSame) {
    engine.overload = newOverload();
    engine.refusesKey = null;
  }
  if (report.state === "ready") {
    if (engine.startingSince !== null) {
      engine.breaker = transition(engine.breaker, { type: "renewed" }, context);
      if (!report.adopted) learnLoadTime(state, { engine, report });
    }
    engine.startingSince = null;
  } else if (report.state === "starting" || report.state === "backoff") {
    const since = report.stateSince;
    const goesOn = isSame && engine.startingSince !== null && report.state === before.state;
    engine.startingSince = goesOn ? Math.min(since, engine.startingSince ?? since) : since;
    const isNew = !isSame || report.state !== before.state || engine.startMovedAt === null;
    if (isNew || report.phase !== before.phase) engine.startMovedAt = now;
  } else engine.startingSince = null;
  return ended;
}

function learnLoadTime(
  { loadTimes }: ClusterState,
  { engine, report }: { engine: Engine; report: EngineReport },
): void {
  const tookMs = report.stateSince - (engine.startingSince ?? report.stateSince);
  engine.loadMs = Math.min(MAX_LOAD_MS, Math.max(0, tookMs));
  for (const model of report.expectedModels) {
    // The map keeps insertion order, so that its first keys are those learnt longest ago.
    loadTimes.delete(model);
    loadTimes.set(model, engine.loadMs);
  }
  for (const model of loadTimes.keys()) {
    if (loadTimes.size <= MAX_LOAD_TIMES) break;
    loadTimes.delete(model);
  }
}
