/** The limits and times by which the cluster decides, with their defaults. */

import { BREAKER_LIMITS, type BreakerLimits } from "../faults/breaker.ts";
import { BUDGET_LIMITS, type BudgetLimits } from "../faults/budget.ts";
import { POISON_LIMITS, type PoisonLimits } from "../faults/poison.ts";
import { QUEUE_LIMITS, type QueueLimits } from "./queue.ts";

export interface ClusterLimits extends QueueLimits {
  heartbeatIntervalMs: number;
  /** Up to this many workers the interval holds; above, it grows in proportion. */
  heartbeatWorkers: number;
  staleAfterMs: number;
  lostAfterMs: number;
  /** How long what an engine said about its load holds. */
  loadMaxAgeMs: number;
  /** How long nothing may come out of a busy engine before it is suspect; longer with long prompts
   * ahead and while it loads a model. */
  stallAfterMs: number;
  /** How long before that its worker begins to ask it for a token of its own. */
  examineAheadMs: number;
  /** What is added while an engine loads a model that a request waits for. */
  modelLoadMs: number;
  /** How long an engine stays suspect that gets no requests any more. */
  suspectForgetMs: number;
  /** How often a worker is told again what to examine. */
  examineRepeatMs: number;
  /** How long another run with the same id is refused after the old one was last heard. */
  replaceRunAfterMs: number;
  /** How long a request may go on after its process was reported to have ended: what the process
   * sent last may still be on its way. */
  endedGraceMs: number;
  /** How long a lost or left worker is still shown. */
  forgetAfterMs: number;
  /** How long after the head's start an unknown model may still be on its way. */
  settleMs: number;
  /** How long a model counts as known after it was last there. */
  knownModelMs: number;
  /** A tick that comes later than this after the one before moves all deadlines. */
  tickIntervalMs: number;
  maxWorkers: number;
  maxEnginesPerWorker: number;
  maxModelsPerWorker: number;
  maxKnownModels: number;
  /** Requests at once for an engine that does not say how many it should have. */
  maxInFlight: number;
  /** Requests at once for an engine that is reached by lane: a worker has no more lanes. */
  maxByLane: number;
  /** How long a request waits for a replica; for one that starts, so long after its usual time. */
  queueTimeoutMs: number;
  /** The most that a start of unknown length is waited for. */
  maxStartWaitMs: number;
  /** How long after a broken connection it may become known that the engine has ended. */
  diedWithinMs: number;
  breaker: BreakerLimits;
  poison: PoisonLimits;
  retries: BudgetLimits;
}

/** The defaults of the design; the documents name those that users notice. */
export const CLUSTER_LIMITS: ClusterLimits = {
  heartbeatIntervalMs: 1000,
  heartbeatWorkers: 500,
  staleAfterMs: 5000,
  lostAfterMs: 15_000,
  loadMaxAgeMs: 5000,
  stallAfterMs: 20_000,
  examineAheadMs: 10_000,
  modelLoadMs: 600_000,
  suspectForgetMs: 60_000,
  examineRepeatMs: 5000,
  replaceRunAfterMs: 5000,
  endedGraceMs: 2000,
  forgetAfterMs: 600_000,
  settleMs: 30_000,
  knownModelMs: 3_600_000,
  tickIntervalMs: 250,
  maxWorkers: 4096,
  maxEnginesPerWorker: 16,
  maxModelsPerWorker: 4096,
  maxKnownModels: 16_384,
  maxInFlight: 256,
  maxByLane: 512,
  queueTimeoutMs: 60_000,
  maxStartWaitMs: 1_800_000,
  diedWithinMs: 500,
  ...QUEUE_LIMITS,
  breaker: BREAKER_LIMITS,
  poison: POISON_LIMITS,
  retries: BUDGET_LIMITS,
};

/** A cluster, as far as its times depend on it. */
interface Sized {
  limits: ClusterLimits;
  workers: ReadonlyMap<string, unknown>;
}

/** What the head tells a worker at its heartbeat, scaled to the size of the cluster. */
export function heartbeatPlan({ limits, workers }: Sized): {
  intervalMs: number;
  staleAfterMs: number;
  lostAfterMs: number;
  loadMaxAgeMs: number;
} {
  const factor = Math.max(1, workers.size / limits.heartbeatWorkers);
  return {
    intervalMs: Math.round(limits.heartbeatIntervalMs * factor),
    staleAfterMs: Math.round(limits.staleAfterMs * factor),
    lostAfterMs: Math.round(limits.lostAfterMs * factor),
    loadMaxAgeMs: Math.round(limits.loadMaxAgeMs * factor),
  };
}
