/** Which of an engine's load figures go into the next heartbeat. */

import type { LoadSample } from "../engine/ask/load.ts";
import type { EngineLoad } from "../protocol/messages.ts";

export interface LoadReportOptions {
  engine: string;
  latest: () => LoadSample | null;
  /** One-token generations that failed in a row; null: none is known of. */
  failedGenerations: () => number | null;
  /** Unchanged figures are said again after this: less than the head lets them hold. */
  repeatMs: number;
}

export interface LoadReport {
  /** What is new since the last call; unknown load is left to grow old at the head. */
  next(): EngineLoad[];
  /** A new session knows nothing yet. */
  forget(): void;
}

export function createLoadReport(options: LoadReportOptions): LoadReport {
  const { engine, latest, failedGenerations, repeatMs } = options;
  type Figures = Omit<EngineLoad, "engine" | "sampleAgeMs">;
  let last: { load: Figures; at: number } | null = null;
  return {
    next() {
      const sample = latest();
      const failed = failedGenerations();
      if (sample === null && failed === null) return [];
      const flow = sample?.flow ?? null;
      const load: Figures = {
        ...sample?.load,
        ...(flow !== null && { flow }),
        ...(failed !== null && { failedGenerations: failed }),
      };
      const now = performance.now();
      const isOld = last === null || now - last.at >= repeatMs;
      if (!isOld && Bun.deepEquals(last?.load, load)) return [];
      last = { load, at: now };
      return [{ engine, ...load, sampleAgeMs: sample?.ageMs ?? 0 }];
    },
    forget() {
      last = null;
    },
  };
}
