/** What a fuzzer is, and how it says what it has found. */

import { isDeepStrictEqual } from "node:util";
import type { Random } from "./random.ts";

export interface Fuzzer {
  name: string;
  /** What must hold, in one line. */
  about: string;
  /** How many turns it takes while others take one; 1 by default. */
  turns?: number;
  open(): Promise<Opened>;
}

export interface Opened extends AsyncDisposable {
  /** One round: all that it does follows from `random`. Throws on a finding. */
  once(random: Random): void | Promise<void>;
}

/** A fuzzer that needs nothing but its round. */
export function pure(name: string, about: string, once: Opened["once"]): Fuzzer {
  return {
    name,
    about,
    open: async () => ({ once, [Symbol.asyncDispose]: async () => {} }),
  };
}

/** Throws with `input`, so that the finding can be had again without the fuzzer. */
export function must(holds: boolean, what: string, input: unknown): asserts holds {
  if (!holds) throw new Error(`${what}\ninput: ${shown(input)}`);
}

export function mustEqual(
  got: unknown,
  wanted: unknown,
  about: { what: string; input: unknown },
): void {
  if (isDeepStrictEqual(got, wanted)) return;
  throw new Error(
    `${about.what}\ngot:    ${shown(got)}\nwanted: ${shown(wanted)}\ninput:  ${shown(about.input)}`,
  );
}

/** What `work` throws must be of the kind that is told to users. */
export function mayThrow<T>(work: () => T, isExpected: (error: unknown) => boolean): T | null {
  try {
    return work();
  } catch (error) {
    if (isExpected(error)) return null;
    throw error;
  }
}

const MAX_SHOWN = 4000;

function shown(value: unknown): string {
  const text =
    value instanceof Uint8Array
      ? JSON.stringify(Buffer.from(value).toString("latin1"))
      : JSON.stringify(value, (_, part: unknown) => (part === undefined ? "undefined" : part));
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN)}... (${text.length})`;
}
