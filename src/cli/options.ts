/** The values of a command's options: flag over environment over default, read by their kind. */

import { LlmnodeError } from "../protocol/errors.ts";
import { cleanLine } from "../util/text.ts";
import { parseDuration } from "../util/units.ts";
import type { Environment, OptionSpec } from "./spec.ts";

/** Every reader throws a `usage` LlmnodeError that names where a bad value came from. */
export interface Options {
  /** The last value given, or the default, or null. */
  text(flag: string): string | null;
  /** All values of a repeatable option. */
  texts(flag: string): string[];
  isOn(flag: string): boolean;
  /** Whether a flag or a variable gave it, not the default. */
  isGiven(flag: string): boolean;
  /** A whole number within `range`, both ends included. */
  integer(flag: string, range: Range): number | null;
  /** A decimal number within `range`, both ends included. */
  number(flag: string, range: Range): number | null;
  /** Milliseconds; a unit is needed. */
  durationMs(flag: string): number | null;
  /** Bytes, from forms such as `20MB`, `256MiB` or a plain number. */
  bytes(flag: string): number | null;
  choice<T extends string>(flag: string, allowed: readonly T[]): T;
  /** The error for a value that is none: `--port needs a port, not "x"`. */
  invalid(flag: string, needed: string): LlmnodeError;
}

export interface Range {
  min: number;
  max: number;
}

const BYTES: Record<string, number> = {
  "": 1,
  b: 1,
  k: 1024,
  kb: 1000,
  kib: 1024,
  m: 1024 ** 2,
  mb: 1000 ** 2,
  mib: 1024 ** 2,
  g: 1024 ** 3,
  gb: 1000 ** 3,
  gib: 1024 ** 3,
};

interface Given {
  values: string[];
  /** How messages name it: `--port` or `LLMNODE_PORT`; null for a default. */
  source: string | null;
}

export function createOptions(
  specs: readonly OptionSpec[],
  flags: ReadonlyMap<string, string[]>,
  env: Environment,
): Options {
  const given = new Map(specs.map((spec) => [spec.flag, resolve(spec, flags.get(spec.flag), env)]));
  const find = (flag: string): Given => {
    const found = given.get(flag);
    if (found === undefined) throw new Error(`the command has no option --${flag}`);
    return found;
  };
  const text = (flag: string) => find(flag).values.at(-1) ?? null;
  const invalid = (flag: string, needed: string) => {
    const { source, values } = find(flag);
    const shown = cleanLine(values.at(-1) ?? "", 80);
    return new LlmnodeError("usage", `${source ?? `--${flag}`} needs ${needed}, not "${shown}"`);
  };
  const read = (flag: string, needed: string, parse: (value: string) => number | null) => {
    const value = text(flag);
    if (value === null) return null;
    const parsed = parse(value);
    if (parsed === null) throw invalid(flag, needed);
    return parsed;
  };
  const inRange =
    (pattern: RegExp, { min, max }: Range) =>
    (value: string) => {
      const parsed = pattern.test(value) ? Number(value) : Number.NaN;
      return parsed >= min && parsed <= max ? parsed : null;
    };
  const upTo = ({ min, max }: Range) =>
    max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`;

  return {
    text,
    texts: (flag) => [...find(flag).values],
    isOn(flag) {
      const value = text(flag)?.toLowerCase() ?? "false";
      if (["1", "true", "yes", "on"].includes(value)) return true;
      if (["0", "false", "no", "off"].includes(value)) return false;
      throw invalid(flag, "1 or 0");
    },
    isGiven: (flag) => find(flag).source !== null,
    integer: (flag, range) =>
      read(flag, `a whole number ${upTo(range)}`, inRange(/^-?\d{1,16}$/, range)),
    number: (flag, range) =>
      read(flag, `a number ${upTo(range)}`, inRange(/^-?\d{1,16}(\.\d{1,16})?$/, range)),
    durationMs: (flag) => read(flag, "a duration such as 500ms, 30s or 10m", parseDuration),
    bytes: (flag) => read(flag, "a size such as 20MB or 256MiB", parseBytes),
    choice<T extends string>(flag: string, allowed: readonly T[]): T {
      const value = text(flag);
      const found = allowed.find((candidate) => candidate === value);
      if (found === undefined) throw invalid(flag, `one of ${allowed.join(", ")}`);
      return found;
    },
    invalid,
  };
}

function resolve(spec: OptionSpec, flagged: string[] | undefined, env: Environment): Given {
  if (flagged !== undefined) return { values: flagged, source: `--${spec.flag}` };
  const fromEnv = spec.env === undefined ? undefined : env[spec.env];
  // An empty variable is how people switch one off; it counts as absent.
  if (spec.env !== undefined && fromEnv !== undefined && fromEnv !== "") {
    const values = spec.repeat === true ? fromEnv.split(",").filter(Boolean) : [fromEnv];
    return { values, source: spec.env };
  }
  return { values: spec.default === undefined ? [] : [spec.default], source: null };
}

function parseBytes(text: string): number | null {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)$/.exec(text);
  const unit = BYTES[(match?.[2] ?? "?").toLowerCase()];
  return match === null || unit === undefined ? null : Math.round(Number(match[1]) * unit);
}
