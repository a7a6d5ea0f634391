/** Reads a command line word by word, so that every value stays exactly what was typed. */

import type { OptionSpec } from "./options.ts";

export interface Scan {
  /** Words that are neither flags nor their values. */
  words: string[];
  /** Where each of `words` stood. */
  wordsAt: number[];
  /** The values given to each known flag, in order; a switch has "true" or "false". */
  flags: Map<string, string[]>;
  /** Flags that `specs` does not know, as typed, without their values. */
  unknown: string[];
  /** Flags that stood without the value they need, or a switch with one it does not understand. */
  malformed: Array<{ spec: OptionSpec; value: string | null }>;
  /** Everything after the first `--`; null without one. */
  rest: string[] | null;
}

/**
 * Splits `argv` by the rules that cac follows too, but without its conversion of values (which
 * makes 7 of "007"): a value that starts with a dash needs the `--flag=value` form.
 */
export function scanArgv(argv: readonly string[], specs: readonly OptionSpec[]): Scan {
  const end = argv.indexOf("--");
  const scan: Scan = {
    words: [],
    wordsAt: [],
    flags: new Map(),
    unknown: [],
    malformed: [],
    rest: end === -1 ? null : argv.slice(end + 1),
  };
  const before = end === -1 ? argv : argv.slice(0, end);
  for (let i = 0; i < before.length; i += 1) {
    const word = before[i] ?? "";
    if (!word.startsWith("-") || word === "-") {
      scan.words.push(word);
      scan.wordsAt.push(i);
    } else if (word.startsWith("--")) {
      if (readLong(scan, specs, { word, next: before[i + 1] })) i += 1;
    } else {
      if (readShort(scan, specs, { word, next: before[i + 1] })) i += 1;
    }
  }
  return scan;
}

/**
 * Gives options that may stand alone the value that they then have: whether the next word is theirs
 * could not be told otherwise.
 */
export function fillBare(argv: readonly string[], specs: readonly OptionSpec[]): string[] {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  return argv.map((word, i) => {
    const spec = specs.find(({ bare, flag }) => bare !== undefined && word === `--${flag}`);
    const next = i + 1 < end ? argv[i + 1] : undefined;
    if (spec === undefined || i >= end || next?.includes("://") === true) return word;
    return `${word}=${spec.bare}`;
  });
}

/** Reads one `--flag`; true when it took the next word as its value. */
function readLong(
  scan: Scan,
  specs: readonly OptionSpec[],
  { word, next }: { word: string; next: string | undefined },
): boolean {
  const equals = word.indexOf("=");
  const name = equals === -1 ? word.slice(2) : word.slice(2, equals);
  const inline = equals === -1 ? null : word.slice(equals + 1);
  const spec = specs.find((candidate) => candidate.flag === name);
  if (spec === undefined) {
    scan.unknown.push(`--${name}`);
    return false;
  }
  if (spec.value === undefined) {
    if (inline === null || inline === "true" || inline === "false") add(scan, spec, inline);
    else scan.malformed.push({ spec, value: inline });
    return false;
  }
  const taken = inline === null && next !== undefined && !next.startsWith("-");
  const value = taken ? next : inline;
  if (value === null || value === "") scan.malformed.push({ spec, value: null });
  else add(scan, spec, value);
  return taken;
}

/** Reads `-h`, or several switches in one word; the last may take the next word as its value. */
function readShort(
  scan: Scan,
  specs: readonly OptionSpec[],
  { word, next }: { word: string; next: string | undefined },
): boolean {
  const letters = [...word.slice(1)];
  for (const [i, letter] of letters.entries()) {
    const spec = specs.find((candidate) => candidate.short === letter);
    if (spec === undefined) {
      scan.unknown.push(word);
      return false;
    }
    if (spec.value === undefined) {
      add(scan, spec, null);
      continue;
    }
    const isTaken = i === letters.length - 1 && next !== undefined && !next.startsWith("-");
    if (isTaken && next !== "") add(scan, spec, next);
    else scan.malformed.push({ spec, value: null });
    return isTaken;
  }
  return false;
}

function add(scan: Scan, spec: OptionSpec, value: string | null): void {
  const values = scan.flags.get(spec.flag) ?? [];
  values.push(value ?? "true");
  scan.flags.set(spec.flag, values);
}

/** A word as a shell would need it typed. */
export function shellWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
