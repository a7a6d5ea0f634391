/** What a person means by a name: a thing's own name, or the beginning of its id. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { suggest } from "../base/suggest.ts";

/** Less of an id names nothing. */
const MIN_PREFIX = 4;
/** A shorter part of a name is in many. */
const MIN_PART = 2;
const MAX_SHOWN = 8;

export interface Named<R> {
  /** What the things are called, such as "worker". */
  noun: string;
  rows: readonly R[];
  name: (row: R) => string;
  /** Things without ids of their own are known by name alone. */
  id?: (row: R) => string;
  /** A name within a name: of `gpu-01/1` the worker. */
  within?: (word: string) => string;
}

/**
 * The one that a word names, for looking only: acting takes a whole name. Throws `not_found` with
 * what may have been meant, and `usage` where several are.
 */
export function rowNamed<R>(word: string, named: Named<R>): R {
  const { rows, name, id, within } = named;
  const part = within?.(word) ?? word;
  const exact = rows.find((row) => [word, part].includes(name(row)) || id?.(row) === word);
  if (exact !== undefined) return exact;
  const begun =
    id === undefined || word.length < MIN_PREFIX
      ? []
      : rows.filter((row) => id(row).startsWith(word));
  const [only, ...others] = begun;
  if (only !== undefined && others.length === 0) return only;
  const names = (begun.length > 0 ? begun : rows).map(name);
  throw begun.length > 0 ? manyMeant(word, named.noun, names) : noneMeant(word, named.noun, names);
}

/** "there is no worker x", with what there is. */
export function noneMeant(word: string, noun: string, names: readonly string[]): LlmnodeError {
  const lower = word.toLowerCase();
  // Of a model people remember a part, most often what comes after the slash.
  const meant =
    suggest(word, names) ??
    names.find((name) => lower.length >= MIN_PART && name.toLowerCase().includes(lower));
  return new LlmnodeError("not_found", `there is no ${noun} ${cleanLine(word, 80)}`, {
    hints: [
      ...(meant === null || meant === undefined ? [] : [`did you mean   ${meant}`]),
      names.length === 0 ? `there are no ${noun}s (yet)` : `${noun}s: ${some(names)}`,
    ],
  });
}

function manyMeant(word: string, noun: string, names: readonly string[]): LlmnodeError {
  return usage(
    `${cleanLine(word, 80)} is the beginning of several ids`,
    `${noun}s: ${some(names)}`,
  );
}

function some(names: readonly string[]): string {
  return names.slice(0, MAX_SHOWN).join(", ") + (names.length > MAX_SHOWN ? ", ..." : "");
}

/** Of `worker/1` the worker. */
export function workerOf(word: string): string {
  return word.replace(/\/\d+$/, "");
}
