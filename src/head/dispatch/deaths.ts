/** Answers requests whose connection broke whether their engine has ended. */

import { hasCrashed } from "../../cluster/faults/poison.ts";
import type { ClusterState, Lease } from "../../cluster/state/state.ts";
import type { Log } from "../../util/log.ts";

export interface Deaths extends Disposable {
  /** At once where it is known, else within `limits.diedWithinMs`; false where it stays unknown. */
  died(lease: Lease): Promise<boolean>;
  /** To be called when a worker may have reported something new. */
  poll(): void;
}

export function createDeaths({ state, log }: { state: ClusterState; log: Log }): Deaths {
  const asking = new Map<PromiseWithResolvers<boolean>, { lease: Lease; timer: Timer }>();

  const settle = (question: PromiseWithResolvers<boolean>, died: boolean) => {
    clearTimeout(asking.get(question)?.timer);
    asking.delete(question);
    question.resolve(died);
  };
  return {
    died(lease) {
      const known = verdictOf(state, lease);
      if (known !== null) return Promise.resolve(known);
      const question = Promise.withResolvers<boolean>();
      const timer = setTimeout(settle, state.limits.diedWithinMs, question, false);
      asking.set(question, { lease, timer });
      return question.promise;
    },
    poll() {
      // It is called for every request that ends.
      if (state.poison.killers.length === 0 && asking.size === 0) return;
      for (const killer of state.poison.killers.splice(0)) {
        log.warn("a request that crashes engines is refused from now on", {
          deaths: killer.deaths,
          body: killer.hash,
          for_ms: state.limits.poison.refuseMs,
        });
      }
      for (const [question, { lease }] of asking) {
        const verdict = verdictOf(state, lease);
        if (verdict !== null) settle(question, verdict);
      }
    },
    [Symbol.dispose]() {
      for (const question of [...asking.keys()]) settle(question, false);
    },
  };
}

/** Null: it is not known yet. */
function verdictOf(state: ClusterState, lease: Lease): boolean | null {
  if (!lease.hasProcess) return false;
  if (hasCrashed(state.poison, lease.engineRun)) return true;
  const worker = state.workers.get(lease.workerId);
  // With its worker gone, or stopped on purpose, it has not died of a request.
  const isGone = worker === undefined || worker.left || worker.state === "lost";
  if (isGone || state.endedRuns.has(lease.engineRun)) return false;
  return worker.engines.get(lease.engineNumber)?.report.state === "stopping" ? false : null;
}
