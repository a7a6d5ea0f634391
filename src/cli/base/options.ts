/** The values of a command's options: flag, environment, file, default; read by their kind. */

import { usage } from "./messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { parseDuration } from "../../util/units.ts";

export type Environment = Record<string, string | undefined>;

export interface OptionSpec {
  /** The long flag without its dashes. */
  flag: string;
  /** A one-letter form. */
  short?: string;
  /** The values that it can have, where these are fixed. */
  choices?: readonly string[];
  /** The placeholder of its value in help, such as `<host:port>`. Absent: an on/off switch. */
  value?: string;
  /** The value that counts when it is given without one; a value then needs `=` or a `://` in it. */
  bare?: string;
  /** May be given several times; in the environment its values are separated by commas. */
  repeat?: boolean;
  /** The values of all sources count, the strongest last, instead of those of the strongest alone. */
  merges?: boolean;
  /** A file or folder; in a configuration file its path starts at that file's folder. */
  isPath?: boolean;
  /** The table of a configuration file whose entries are its values too, as `key=value`. */
  table?: string;
  /** Only for a command line, not for a configuration file. */
  isTyped?: boolean;
  /** Its value, or what follows the `=` in it, is never shown. */
  isSecret?: boolean;
  /** The environment variable that is read when the flag is not given. */
  env?: string;
  /** The text that counts when neither flag nor environment says anything. */
  default?: string;
  /** What help shows as the default when it is no fixed text. */
  defaultNote?: string;
  summary: string;
}

/** Each with the environment variable of its own name, but for those in `without`. */
export function withVariables(
  specs: readonly OptionSpec[],
  { prefix = "LLMNODE_", without = [] }: { prefix?: string; without?: readonly string[] } = {},
): OptionSpec[] {
  return specs.map((spec) => {
    const env = prefix + spec.flag.toUpperCase().replaceAll("-", "_");
    return without.includes(spec.flag) ? spec : { env, ...spec };
  });
}

/** Every reader throws a `usage` LlmnodeError that names where a bad value came from. */
export interface Options {
  /** The last value given, or the default, or null. */
  text(flag: string): string | null;
  /** All values of a repeatable option. */
  texts(flag: string): string[];
  /** The same, each with how messages name the place that it is from. */
  each(flag: string): SourcedText[];
  isOn(flag: string): boolean;
  /** Whether a flag, a variable or the file gave it, not the default. */
  isGiven(flag: string): boolean;
  /** What gave it; of an option that merges, the strongest that did. */
  from(flag: string): ValueSource;
  /** How messages name what gave it, such as `--port` or `LLMNODE_PORT`. */
  named(flag: string): string;
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

export type ValueSource = "flag" | "environment" | "file" | "default";

export interface SourcedText {
  text: string;
  /** How messages name where it is from. */
  source: string;
  /** The file and line, of what is from a file. */
  at?: string;
}

/** What was given for a command's options, by flag. */
export interface GivenValues {
  flags: ReadonlyMap<string, string[]>;
  env: Environment;
  /** From a configuration file. */
  file?: ReadonlyMap<string, SourcedText[]>;
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

interface Found {
  values: SourcedText[];
  from: ValueSource;
}

export function createOptions(specs: readonly OptionSpec[], given: GivenValues): Options {
  const all = new Map(specs.map((spec) => [spec.flag, resolve(spec, given)]));
  const find = (flag: string): Found => {
    const found = all.get(flag);
    if (found === undefined) throw new Error(`the command has no option --${flag}`);
    return found;
  };
  const text = (flag: string) => find(flag).values.at(-1)?.text ?? null;
  const named = (flag: string) => find(flag).values.at(-1)?.source ?? `--${flag}`;
  const invalid = (flag: string, needed: string) => {
    const shown = cleanLine(text(flag) ?? "", 80);
    return usage(`${named(flag)} needs ${needed}, not "${shown}"`);
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
    texts: (flag) => find(flag).values.map((value) => value.text),
    each: (flag) => [...find(flag).values],
    isOn(flag) {
      const value = text(flag)?.toLowerCase() ?? "false";
      if (["1", "true", "yes", "on"].includes(value)) return true;
      if (["0", "false", "no", "off"].includes(value)) return false;
      throw invalid(flag, "1 or 0");
    },
    isGiven: (flag) => find(flag).from !== "default",
    from: (flag) => find(flag).from,
    named,
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

function resolve(spec: OptionSpec, { flags, env, file }: GivenValues): Found {
  const name = `--${spec.flag}`;
  const sources: Found[] = [
    { from: "file", values: file?.get(spec.flag) ?? [] },
    { from: "environment", values: fromEnvironment(spec, env) },
    { from: "flag", values: (flags.get(spec.flag) ?? []).map((text) => ({ text, source: name })) },
  ];
  const given = sources.filter(({ values }) => values.length > 0);
  const strongest = given.at(-1);
  if (strongest !== undefined) {
    if (spec.merges !== true) return strongest;
    return { ...strongest, values: given.flatMap(({ values }) => values) };
  }
  const values = spec.default === undefined ? [] : [{ text: spec.default, source: name }];
  return { from: "default", values };
}

/**
 * An empty variable is how people switch one off; it counts as absent. So does what Kubernetes puts
 * into every container beside a service that is called `llmnode`: `LLMNODE_PORT=tcp://10.0.0.1:8092`.
 */
function fromEnvironment({ env: source, repeat }: OptionSpec, env: Environment): SourcedText[] {
  const value = source === undefined ? undefined : env[source];
  if (source === undefined || value === undefined || value === "") return [];
  if (/^(?:tcp|udp|sctp):\/\//.test(value)) return [];
  const texts = repeat === true ? value.split(",").filter(Boolean) : [value];
  return texts.map((text) => ({ text, source }));
}

/** `20MB`, `256MiB`, `512`; null when it is no size. */
export function parseBytes(text: string): number | null {
  const match = /^(\d{1,15}(?:\.\d{1,6})?) ?([A-Za-z]*)$/.exec(text);
  const unit = BYTES[(match?.[2] ?? "?").toLowerCase()];
  return match === null || unit === undefined ? null : Math.round(Number(match[1]) * unit);
}
