/** Holds an engine's status and reports its changes, each once and in order. */

import { messageOf } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { NO_FAILURE } from "./failure.ts";
import { describe, transition, type EngineCondition, type EngineEvent } from "./state.ts";
import type { EngineStatus } from "./status.ts";

/** What the status says besides its condition. */
export type EngineFacts = Omit<
  EngineStatus,
  "state" | "phase" | "reason" | "stateSince" | "phaseSince"
>;

export interface StatusReport {
  status(): EngineStatus;
  condition(): EngineCondition;
  /** Applies an event and, with it, what became known. */
  dispatch(event: EngineEvent, facts?: Partial<EngineFacts>): void;
  /** Changes facts alone. */
  update(facts: Partial<EngineFacts>): void;
}

export function createReport(
  initial: EngineFacts,
  { onChange, log }: { onChange: (status: EngineStatus) => void; log: Log },
): StatusReport {
  let condition: EngineCondition = { state: "starting", progress: null, reason: null };
  let status: EngineStatus = {
    ...initial,
    ...describe(condition),
    stateSince: Date.now(),
    phaseSince: null,
  };
  const changes: EngineStatus[] = [];
  let isNotifying = false;

  // A callback may cause the next change: it is reported after the callback has returned.
  const notify = () => {
    if (isNotifying) return;
    isNotifying = true;
    for (let change = changes.shift(); change; change = changes.shift()) {
      try {
        onChange(change);
      } catch (error) {
        log.error(`a listener for engine changes failed: ${messageOf(error)}`);
      }
    }
    isNotifying = false;
  };
  const apply = (next: EngineCondition, facts: Partial<EngineFacts>) => {
    const stateSince = next.state === condition.state ? status.stateSince : Date.now();
    const phaseSince = sincePhase(condition, next, status.phaseSince);
    const changed: EngineStatus = {
      ...status,
      // What it ended with is news until it is well again.
      ...(next.state === "ready" ? NO_FAILURE : {}),
      ...facts,
      ...describe(next),
      stateSince,
      phaseSince,
    };
    condition = next;
    if (Bun.deepEquals(changed, status)) return;
    status = changed;
    changes.push(changed);
    notify();
  };

  return {
    status: () => status,
    condition: () => condition,
    dispatch: (event, facts = {}) => apply(transition(condition, event), facts),
    update: (facts) => apply(condition, facts),
  };
}

/** Since when the phase of `next` holds: a percentage alone is no new phase. */
function sincePhase(
  before: EngineCondition,
  next: EngineCondition,
  since: number | null,
): number | null {
  if (next.state !== "starting" || next.progress === null) return null;
  const was = before.state === "starting" ? before.progress?.phase : undefined;
  return was === next.progress.phase && since !== null ? since : Date.now();
}
