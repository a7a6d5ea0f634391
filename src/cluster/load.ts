/** What engines say about their load, as their workers pass it on. */

import type { EngineLoad } from "../protocol/messages.ts";
import { type ClusterState, type Engine, heartbeatPlan, type Worker } from "./state.ts";

/** Null: the engine does not say. */
export interface LoadFigures {
  /** Requests that it runs, and that wait inside it, whoever sent them. */
  running: number | null;
  waiting: number | null;
  /** The share of its cache that is taken, 0 to 1. */
  kvUsage: number | null;
  /** Prompt tokens found in its prefix cache since its start, and looked up. */
  prefixHitTokens: number | null;
  prefixQueryTokens: number | null;
  /** When the engine said so. */
  sampledAt: number;
}

/** Takes over what a heartbeat brings; engines that the worker has not announced are passed over. */
export function reportLoads(worker: Worker, loads: readonly EngineLoad[], now: number): void {
  for (const load of loads) {
    const engine = worker.engines.get(load.engine);
    if (!engine) continue;
    engine.load = {
      running: figure(load.running),
      waiting: figure(load.waiting),
      kvUsage: figure(load.kvUsage, 1),
      prefixHitTokens: figure(load.prefixHitTokens),
      prefixQueryTokens: figure(load.prefixQueryTokens),
      sampledAt: now - (figure(load.sampleAgeMs) ?? 0),
    };
  }
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
