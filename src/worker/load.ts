/** Which of an engine's load figures go into the next heartbeat. */

import type { LoadSample } from "../engine/load.ts";
import type { LoadNumbers } from "../engine/load-source.ts";
import type { EngineLoad } from "../protocol/messages.ts";

export interface LoadReportOptions {
  engine: string;
  latest: () => LoadSample | null;
  /** Unchanged figures are said again after this: less than the head lets them hold. */
  repeatMs: number;
}

export interface LoadReport {
  /** What is new since the last call; unknown load is left to grow old at the head. */
  next(): EngineLoad[];
  /** A new session knows nothing yet. */
  forget(): void;
}

export function createLoadReport({ engine, latest, repeatMs }: LoadReportOptions): LoadReport {
  let last: { load: LoadNumbers; at: number } | null = null;
  return {
    next() {
      const sample = latest();
      if (sample === null) return [];
      const now = performance.now();
      const isOld = last === null || now - last.at >= repeatMs;
      if (!isOld && Bun.deepEquals(last?.load, sample.load)) return [];
      last = { load: sample.load, at: now };
      return [{ engine, ...sample.load, sampleAgeMs: sample.ageMs }];
    },
    forget() {
      last = null;
    },
  };
}
