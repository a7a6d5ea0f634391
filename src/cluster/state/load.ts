/** What engines report about their load, as their workers pass it on. */

import { heartbeatPlan } from "./limits.ts";
import type { EngineLoad } from "../../protocol/messages.ts";
import type { ClusterState, Engine, LoadFigures, Worker } from "./state.ts";

/** Takes over what a heartbeat brings; engines that the worker has not announced are passed over. */
export function reportLoads(worker: Worker, loads: readonly EngineLoad[], now: number): void {
  for (const load of loads) {
    const engine = worker.engines.get(load.engine);
    if (!engine) continue;
    const before = engine.load;
    const reported = {
      running: figure(load.running),
      waiting: figure(load.waiting),
      kvUsage: figure(load.kvUsage, 1),
      prefixHitTokens: figure(load.prefixHitTokens),
      prefixQueryTokens: figure(load.prefixQueryTokens),
      flow: figure(load.flow),
      failedGenerations: figure(load.failedGenerations),
      sampledAt: now - (figure(load.sampleAgeMs) ?? 0),
    };
    engine.load = reported;
    // The worker's own generations are not a part of the sample, and may be newer.
    if (reported.failedGenerations === 0 && before?.failedGenerations !== 0) engine.flowedAt = now;
    else if (before !== null && hasMoved(before, reported)) engine.flowedAt = reported.sampledAt;
  }
}

/**
 * Whether it produces tokens again. What it runs, and what waits, also changes as requests arrive at a dead
 * engine.
 */
function hasMoved(before: LoadFigures, after: LoadFigures): boolean {
  return (["flow", "kvUsage", "prefixHitTokens", "prefixQueryTokens"] as const).some(
    (name) => before[name] !== null && after[name] !== null && before[name] !== after[name],
  );
}

/** The engine's load, or null where it is not known any more. */
export function loadOf(state: ClusterState, engine: Engine, now: number): LoadFigures | null {
  const { load } = engine;
  return load !== null && now - load.sampledAt <= heartbeatPlan(state).loadMaxAgeMs ? load : null;
}

/** What is no sound number is not known. */
function figure(value: number | undefined, max = Number.MAX_SAFE_INTEGER): number | null {
  if (value === undefined || !Number.isFinite(value) || value < 0) return null;
  return Math.min(value, max);
}
