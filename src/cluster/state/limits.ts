/** The limits and times by which the cluster decides, with their defaults. */

import { BREAKER_LIMITS } from "../faults/breaker.ts";
import { BUDGET_LIMITS } from "../faults/budget.ts";
import { POISON_LIMITS } from "../faults/poison.ts";
import { QUEUE_LIMITS } from "./queue.ts";

/** The defaults of the design; the documents name those that users notice. */
export const CLUSTER_LIMITS = {
  heartbeatIntervalMs: 1000,
  /** Up to this many workers the interval holds; above, it grows in proportion. */
  heartbeatWorkers: 500,
  staleAfterMs: 5000,
  lostAfterMs: 15_000,
  /** How long what an engine said about its load holds. */
  loadMaxAgeMs: 5000,
  /** How long nothing may come out of a busy engine before it is suspect; longer with long prompts
   * ahead and while it loads a model. */
  stallAfterMs: 20_000,
  /** How long before that its worker begins to ask it for a token of its own. */
  examineAheadMs: 10_000,
  /** What is added while an engine loads a model that a request waits for. */
  modelLoadMs: 600_000,
  /** How long an engine stays suspect that gets no requests any more. */
  suspectForgetMs: 60_000,
  /** How often a worker is told again what to examine. */
  examineRepeatMs: 5000,
  /** How long another run with the same id is refused after the old one was last heard. */
  replaceRunAfterMs: 5000,
  /** How long a request may go on after its process was reported to have ended: what the process
   * sent last may still be on its way. */
  endedGraceMs: 2000,
  /** How long a lost or left worker is still shown. */
  forgetAfterMs: 600_000,
  /** How long after the head's start an unknown model may still be on its way. */
  settleMs: 30_000,
  /** How long a model counts as known after it was last there. */
  knownModelMs: 3_600_000,
  /** A tick that comes later than this after the one before moves all deadlines. */
  tickIntervalMs: 250,
  maxWorkers: 4096,
  maxEnginesPerWorker: 16,
  maxModelsPerWorker: 4096,
  maxKnownModels: 16_384,
  /** Requests at once for an engine that does not say how many it should have. */
  maxInFlight: 256,
  /** Requests at once for an engine that is reached by lane: a worker has no more lanes. */
  maxByLane: 512,
  /** How long a request waits for a replica; for one that starts, so long after its usual time. */
  queueTimeoutMs: 60_000,
  /** The most that a start of unknown length is waited for. */
  maxStartWaitMs: 1_800_000,
  /** How long after a broken connection it may become known that the engine has ended. */
  diedWithinMs: 500,
  ...QUEUE_LIMITS,
  breaker: BREAKER_LIMITS,
  poison: POISON_LIMITS,
  retries: BUDGET_LIMITS,
};
export type ClusterLimits = typeof CLUSTER_LIMITS;

/** A cluster, as far as its times depend on it. */
interface Sized {
  limits: ClusterLimits;
  workers: ReadonlyMap<string, unknown>;
}

/** What the head tells a worker at its heartbeat, scaled to the size of the cluster. */
export function heartbeatPlan({ limits, workers }: Sized) {
  const factor = Math.max(1, workers.size / limits.heartbeatWorkers);
  return {
    intervalMs: Math.round(limits.heartbeatIntervalMs * factor),
    staleAfterMs: Math.round(limits.staleAfterMs * factor),
    lostAfterMs: Math.round(limits.lostAfterMs * factor),
    loadMaxAgeMs: Math.round(limits.loadMaxAgeMs * factor),
  };
}
