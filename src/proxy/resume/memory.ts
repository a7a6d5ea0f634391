/** Keeps what a resume needs of a request and its answer, within the memory for all of them. */

import type { BodyBudget } from "../request/body.ts";

export interface Kept {
  /** Adds to the answer. What does not fit ends the keeping. */
  add(chunk: Uint8Array): void;
  /** The request as the engine got it, and the answer so far; null when they did not fit. */
  take(): { sent: Uint8Array; answer: Uint8Array } | null;
  /** Lets all of it go; again does nothing. */
  free(): void;
}

export interface KeepOptions {
  budget: BodyBudget;
  /** The most of one answer, in bytes. */
  maxAnswerBytes: number;
}

const FIRST_BYTES = 4 * 1024;

/**
 * The answer is copied into one buffer that doubles: a list of its chunks would be several times as
 * large as they are. Nothing is taken from the budget before the first chunk.
 */
export function keep(sent: Uint8Array, { budget, maxAnswerBytes }: KeepOptions): Kept {
  let request: Uint8Array | null = sent;
  let answer: Uint8Array | null = null;
  let used = 0;
  let taken = 0;

  const free = () => {
    budget.give(taken);
    taken = 0;
    request = null;
    answer = null;
  };
  const reserve = (bytes: number): boolean => {
    if (!budget.take(bytes)) return false;
    taken += bytes;
    return true;
  };
  /** A buffer with room for so many bytes; null when it may not be that large. */
  const grown = (from: Uint8Array | null, bytes: number): Uint8Array | null => {
    if (from !== null && bytes <= from.length) return from;
    if (bytes > maxAnswerBytes) return null;
    const size = Math.min(maxAnswerBytes, Math.max(FIRST_BYTES, bytes, 2 * (from?.length ?? 0)));
    if (!reserve(size - (from?.length ?? 0) + (from === null ? sent.length : 0))) return null;
    const larger = new Uint8Array(size);
    if (from !== null) larger.set(from.subarray(0, used));
    return larger;
  };

  return {
    add(chunk) {
      if (request === null) return;
      answer = grown(answer, used + chunk.length);
      if (answer === null) return free();
      answer.set(chunk, used);
      used += chunk.length;
    },
    take() {
      if (request === null || answer === null) return null;
      return { sent: request, answer: answer.subarray(0, used) };
    },
    free,
  };
}
