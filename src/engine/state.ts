/** The states of an engine and the one function that changes them. */

import type { EngineState } from "../protocol/engine-report.ts";
import { formatBytes } from "../util/units.ts";

/** In the order in which a start goes through them. */
export const PHASES = ["pull", "spawn", "download", "load", "compile", "warmup"] as const;
export type EnginePhase = (typeof PHASES)[number];

export interface EngineProgress {
  phase: EnginePhase;
  /** 0 to 100 where the engine says so. */
  percent: number | null;
  /** What a download has brought so far, where the engine gives no percentage. */
  bytes?: number;
}

export type EngineCondition =
  | { state: "starting"; progress: EngineProgress | null; reason: string | null }
  | { state: "ready"; failures: number }
  | { state: "unhealthy"; reason: string }
  | { state: "backoff"; reason: string }
  | { state: "failed"; reason: string }
  | { state: "stopping" }
  | { state: "stopped"; reason: string | null };

export type EngineEvent =
  /** A new process runs; `phase` if it begins with another one than `spawn`. */
  | { type: "spawned"; phase?: EnginePhase }
  | { type: "adopted" }
  /** The log tells how far the start has come. */
  | { type: "progressed"; progress: EngineProgress }
  /** It answered as a ready engine does. */
  | { type: "answered" }
  /** It is not ready yet; a reason only if a person should know it. */
  | { type: "waiting"; reason: string | null }
  /** A probe failed; `limit` in a row make a ready engine unhealthy. */
  | { type: "missed"; reason: string; limit: number }
  /** It ended, or could not be started again, and will be restarted. */
  | { type: "crashed"; reason: string }
  /** It cannot be restarted. */
  | { type: "gave_up"; reason: string }
  | { type: "stop_asked" }
  /** Everything that was asked to stop has; a reason if something is left. */
  | { type: "ended"; reason: string | null };

/** What follows from an event. An event that means nothing in a condition leaves it as it is. */
export function transition(now: EngineCondition, event: EngineEvent): EngineCondition {
  if (now.state === "stopped") return now;
  if (event.type === "ended") return { state: "stopped", reason: event.reason };
  if (now.state === "stopping") return now;
  switch (event.type) {
    case "stop_asked":
      return { state: "stopping" };
    case "gave_up":
      return { state: "failed", reason: event.reason };
    case "crashed":
      return now.state === "failed" ? now : { state: "backoff", reason: event.reason };
    case "spawned":
      return {
        state: "starting",
        progress: { phase: event.phase ?? "spawn", percent: null },
        reason: null,
      };
    case "adopted":
      // What its log told of its start before holds on.
      return now.state === "starting" ? now : { state: "starting", progress: null, reason: null };
    case "progressed":
      return now.state === "starting" ? moveForward(now, event.progress) : now;
    case "answered":
      return isWatched(now) ? { state: "ready", failures: 0 } : now;
    case "waiting":
      return now.state === "starting" && now.reason !== event.reason
        ? { ...now, reason: event.reason }
        : now;
    case "missed":
      return miss(now, event);
  }
}

/** The condition as a status shows it. */
export function describe(condition: EngineCondition): {
  state: EngineState;
  phase: string | null;
  reason: string | null;
} {
  const { state } = condition;
  if (condition.state !== "starting") {
    return { state, phase: null, reason: "reason" in condition ? condition.reason : null };
  }
  const { progress, reason } = condition;
  return { state, phase: progress && nameOf(progress), reason };
}

function nameOf({ phase, percent, bytes }: EngineProgress): string {
  if (percent !== null) return `${phase} ${percent}%`;
  return bytes === undefined ? phase : `${phase} ${formatBytes(bytes)}`;
}

function isWatched(now: EngineCondition): boolean {
  return now.state === "starting" || now.state === "ready" || now.state === "unhealthy";
}

function miss(
  now: EngineCondition,
  { reason, limit }: { reason: string; limit: number },
): EngineCondition {
  if (now.state === "unhealthy") return { state: "unhealthy", reason };
  if (now.state !== "ready") return now;
  const failures = now.failures + 1;
  return failures >= limit ? { state: "unhealthy", reason } : { state: "ready", failures };
}

/** Logs repeat themselves and overlap: a start never goes back. */
function moveForward(
  now: EngineCondition & { state: "starting" },
  next: EngineProgress,
): EngineCondition {
  const before = now.progress;
  if (before !== null) {
    const step = PHASES.indexOf(next.phase) - PHASES.indexOf(before.phase);
    const grows =
      (next.percent !== null && next.percent > (before.percent ?? -1)) ||
      (before.percent === null && (next.bytes ?? 0) > (before.bytes ?? 0));
    // vLLM and SGLang say that they load the model before they fetch it.
    const isLate = next.bytes !== undefined && before.phase === "load" && before.percent === null;
    if ((step < 0 && !isLate) || (step === 0 && !grows)) return now;
  }
  return { ...now, progress: next };
}
