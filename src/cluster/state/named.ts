/** Which worker a word means: the one rule for all commands and routes. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import type { ClusterState, Worker } from "./state.ts";

/** A prefix of an id that is shorter means none. */
const MIN_PREFIX = 4;
const MAX_SHOWN = 5;

/** Whether that is its name or its id. */
export function isCalled(worker: { name: string; id: string }, word: string): boolean {
  return worker.name === word || worker.id === word;
}

/** By its name or else by its id, both whole; names of workers differ. */
export function findWorker(state: ClusterState, word: string): Worker | null {
  const byId = state.workers.get(word) ?? null;
  for (const worker of state.workers.values()) if (worker.name === word) return worker;
  return byId;
}

/** As `findWorker`, for acting on it. Throws `worker_not_found`. */
export function workerNamed(state: ClusterState, word: string): Worker {
  const worker = findWorker(state, word);
  if (!worker) throw workerNotFound(word);
  return worker;
}

/**
 * As `findWorker`, for looking at it: the beginning of an id will do too. Throws
 * `worker_not_found`; `refused` where that begins several.
 */
export function workerMeant(state: ClusterState, word: string): Worker {
  const found = findWorker(state, word);
  if (found) return found;
  const begun =
    word.length < MIN_PREFIX
      ? []
      : [...state.workers.values()].filter(({ id }) => id.startsWith(word));
  const [only] = begun;
  if (only === undefined) throw workerNotFound(word);
  if (begun.length === 1) return only;
  const names = begun.slice(0, MAX_SHOWN).map(({ name }) => name);
  const all = names.join(", ") + (begun.length > MAX_SHOWN ? ", ..." : "");
  const message = `${cleanLine(word, 80)} is the beginning of several workers' ids: ${all}`;
  throw new LlmnodeError("refused", message);
}

export function workerNotFound(word: string): LlmnodeError {
  const subject = cleanLine(word, 80);
  return new LlmnodeError("worker_not_found", `there is no worker ${subject}`, { subject });
}
