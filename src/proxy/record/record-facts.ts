/** Reads from the record of a finished request what metrics, log and traces say of it. */

import { HTTP_MEANING } from "./error-answer.ts";
import type { AttemptRecord, RequestRecord } from "./record.ts";

/** What stands for a model that no replica is or was known by: clients may send any text. */
export const UNRESOLVED = "unresolved";

/** The name of the model that was used or of its alias, never the client's own text alone. */
export function modelOf(record: RequestRecord): string {
  if (record.alias && record.model !== null) return record.model;
  const used = record.attempts.at(-1)?.model;
  return used ?? (record.modelKnown ? record.model : null) ?? UNRESOLVED;
}

/**
 * Why a request did not end well, from a closed set: our codes, and the outcomes of attempts where
 * the words were the engine's own. Null for a good end.
 */
export function errorCodeOf(record: RequestRecord): string | null {
  const { error, attempts } = record;
  if (error === null) return null;
  if (Object.hasOwn(HTTP_MEANING, error)) return error;
  const outcome = answering(attempts)?.outcome ?? "ok";
  // The attempt was fine but for the error that the engine put into its stream.
  return outcome === "ok" ? "engine_error" : outcome;
}

/**
 * The engine's own words on a failure; null when there are none. Not where it refused the request:
 * such words may repeat parts of it, and the client has them already.
 */
export function engineWordsOf(record: RequestRecord): string | null {
  const { error } = record;
  const code = errorCodeOf(record);
  if (error === null || error === code || code === "rejected") return null;
  return error;
}

/** Whether the answer had begun when the engine or its connection failed. */
export function isTruncated(record: RequestRecord): boolean {
  return record.firstByteMs !== null && answering(record.attempts)?.outcome === "broken";
}

/** The attempt that the client's answer came from at last: one that was to continue it may have failed. */
export function answering(attempts: readonly AttemptRecord[]): AttemptRecord | undefined {
  return attempts.findLast(({ firstByteAt }) => firstByteAt !== null) ?? attempts.at(-1);
}

export type DisconnectPhase = "body" | "queue" | "engine" | "answer";

/** What was going on when the client left; null when it did not leave by itself. */
export function disconnectPhaseOf(record: RequestRecord): DisconnectPhase | null {
  const { status, attempts, model, firstByteMs } = record;
  if (status !== 499 || attempts.at(-1)?.outcome === "slow_client") return null;
  if (attempts.length > 0) return firstByteMs === null ? "engine" : "answer";
  return model === null && record.queueMs === 0 ? "body" : "queue";
}

/** Of a stream only: where an answer comes whole, its first token is not seen. */
export function timeToFirstTokenMs({ stream, firstByteMs }: RequestRecord): number | null {
  return stream ? firstByteMs : null;
}

/** Between the tokens after the first; null where that is not known. */
export function timePerOutputTokenMs(record: RequestRecord): number | null {
  const first = timeToFirstTokenMs(record);
  const output = soundCount(record.usage?.output);
  if (first === null || output === null || output < 2 || record.usageEstimated) return null;
  return (record.durationMs - first) / (output - 1);
}

/**
 * What the head adds before the first data: the time to it without the waits for the client's body,
 * for a replica and for engines. Null where no data came, or one of these was not measured.
 */
export function overheadMs(record: RequestRecord): number | null {
  const { firstByteMs, bodyMs, attempts } = record;
  if (firstByteMs === null) return null;
  let engines = 0;
  // What came after the first data did not delay it.
  const first = attempts.findIndex(({ firstByteAt }) => firstByteAt !== null);
  if (first === -1) return null;
  for (const { startedAt, endedAt, firstByteAt } of attempts.slice(0, first + 1)) {
    engines += (firstByteAt ?? endedAt) - startedAt;
  }
  return Math.max(0, firstByteMs - bodyMs - record.queueMs - engines);
}

/** A number of tokens as an engine says it, or null: engines are not trusted to say sane ones. */
export function soundCount(count: number | null | undefined): number | null {
  return typeof count === "number" && Number.isSafeInteger(count) && count >= 0 ? count : null;
}
