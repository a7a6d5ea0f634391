/** Reads options from one TOML file, each by the name of its flag. */

import { usage } from "../base/messages.ts";
import { dirname, join, resolve } from "node:path";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import type { TomlFile } from "./toml.ts";
import type { SourcedText, Environment, OptionSpec } from "../base/options.ts";
import type { CommandSpec } from "../base/spec.ts";
import { suggest } from "../base/suggest.ts";

export interface TableValues {
  values: Map<string, SourcedText[]>;
  argument: SourcedText | null;
  /** What stands after `--` on a command line. */
  rest: { words: string[]; at: string } | null;
}

/** Something that is wrong in a file; `text` begins with its place. */
export interface Finding {
  isError: boolean;
  text: string;
  hint?: string;
}

interface Entry {
  key: string;
  value: unknown;
  /** The table's keys and this one. */
  path: readonly string[];
  /** For messages: `worker.toml:3:1: port`. */
  source: string;
  /** `worker.toml:3`. */
  at: string;
}

export interface TableRead {
  file: TomlFile;
  /** Where in the file the table is; empty: the file itself. */
  path: readonly string[];
  table: object;
  specs: readonly OptionSpec[];
  configKeys?: CommandSpec["configKeys"];
  /** Keys that are somebody else's business. */
  ignored?: readonly string[];
  /** Whether a key that nobody knows is an error rather than a warning. */
  isStrict: boolean;
  /** Where a key that is not known here belongs. */
  elsewhere?: (key: string) => string | null;
  env: Environment;
  report: (finding: Finding) => void;
}

/** Options of every command that mean something in the table of one that runs until it is stopped. */
export const GENERAL: readonly OptionSpec[] = [
  { flag: "debug", summary: "" },
  { flag: "no-color", summary: "" },
];

export function fileSpecs(command: CommandSpec): OptionSpec[] {
  const own = command.options.filter(({ flag, isTyped }) => flag !== "config" && isTyped !== true);
  return [...own, ...GENERAL];
}

/**
 * A key is a flag without its dashes, with `-` or `_` inside; `adopt = false` is `no-adopt = true`.
 * Relative paths start at the file's folder, `~/` at the home in `env`. What cannot be taken as it
 * stands is reported, in one line that names the file, the place and the key.
 */
export function readTable(read: TableRead): TableValues {
  const { file, configKeys } = read;
  const found: TableValues = { values: new Map(), argument: null, rest: null };
  for (const [name, value] of Object.entries(read.table)) {
    if (read.ignored?.includes(name) === true) continue;
    const path = [...read.path, name];
    const key = name.replaceAll("_", "-");
    const source = `${file.at(path)}: ${cleanLine(name, 80)}`;
    const entry: Entry = { key, value, path, source, at: file.line(path) };
    tryEach(read.report, () => {
      if (configKeys !== undefined && key === configKeys.argument) {
        found.argument = { text: readText(entry), source, at: entry.at };
      } else if (configKeys !== undefined && key === configKeys.rest) {
        found.rest = { words: readRest(entry), at: entry.at };
      } else {
        take(entry, read, found.values);
      }
    });
  }
  return found;
}

export function tryEach(report: (finding: Finding) => void, work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof LlmnodeError) || error.code !== "usage") throw error;
    const hint = error.hints[0];
    report({ isError: true, text: error.message, ...(hint === undefined ? {} : { hint }) });
  }
}

function take(entry: Entry, read: TableRead, values: TableValues["values"]): void {
  const spec = findSpec(entry.key, read.specs);
  if (spec === null) {
    const known = [...knownKeys(read.specs, read.configKeys), ...(read.ignored ?? [])];
    const place = read.elsewhere?.(entry.key) ?? null;
    read.report(unknownKey(read.file, entry.path, { known, isError: read.isStrict, place }));
    return;
  }
  const texts = readOption(entry, spec, read.file).map((found) => ({
    ...found,
    text:
      spec.isPath === true
        ? placed(found.text, { path: read.file.path, env: read.env })
        : found.text,
  }));
  const before = values.get(spec.flag);
  if (before !== undefined && spec.repeat !== true) {
    throw usage(`${entry.source} says again what ${before[0]?.source ?? spec.flag} said`);
  }
  values.set(spec.flag, [...(before ?? []), ...texts]);
}

export function findSpec(key: string, specs: readonly OptionSpec[]): OptionSpec | null {
  return (
    specs.find(({ flag, table }) => flag === key || table === key) ??
    specs.find(({ flag, value }) => value === undefined && flag === `no-${key}`) ??
    null
  );
}

function readOption(entry: Entry, spec: OptionSpec, file: TomlFile): SourcedText[] {
  const { key, value, source, at } = entry;
  if (spec.value === undefined) {
    if (typeof value !== "boolean")
      throw usage(`${source} takes true or false, not ${kindOf(value)}`);
    return [{ text: String(value === (key === spec.flag)), source, at }];
  }
  if (spec.bare !== undefined && typeof value === "boolean") {
    return [{ text: value ? spec.bare : "off", source, at }];
  }
  if (spec.table !== undefined && isTable(value)) {
    return Object.entries(value).map(([name, part]) => {
      const path = [...entry.path, name];
      const place = `${file.at(path)}: ${cleanLine(entry.path.at(-1) ?? "", 80)}.${cleanLine(name, 80)}`;
      return { text: `${name}=${textOf(part, place, "text")}`, source: place, at: file.line(path) };
    });
  }
  if (Array.isArray(value)) {
    if (spec.repeat !== true) throw usage(`${source} takes one value, not a list`);
    return value.map((part: unknown) => ({ text: textOf(part, source, spec.value), source, at }));
  }
  const text = textOf(value, source, spec.value);
  if (text === "") throw usage(`${source} is empty`);
  return [{ text, source, at }];
}

function readText({ value, source }: Pick<Entry, "value" | "source">): string {
  if (typeof value !== "string") throw usage(`${source} needs text, not ${kindOf(value)}`);
  if (value === "") throw usage(`${source} is empty`);
  return value;
}

/** A text that a table must or may have; null where it has none. Throws `usage`. */
export function textIn(
  file: TomlFile,
  { path, table }: { path: readonly string[]; table: object },
  key: string,
): SourcedText | null {
  const found = Object.entries(table).find(([name]) => name.replaceAll("_", "-") === key);
  if (!found) return null;
  const at = [...path, found[0]];
  const source = `${file.at(at)}: ${found[0]}`;
  return { text: readText({ value: found[1], source }), source, at: file.line(at) };
}

function readRest({ key, value, source }: Entry): string[] {
  if (Array.isArray(value) && value.length > 0) {
    return value.map((word: unknown) => textOf(word, source, "text"));
  }
  throw usage(`${source} takes a list of words: ${key} = ["vllm", "serve", "Qwen/Qwen3-8B"]`);
}

/** A number as it is usually written; a date or time as TOML writes it. */
function textOf(value: unknown, source: string, needed: string | undefined): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  if (value instanceof Date) return String(value);
  throw usage(`${source} needs ${needed ?? "text"}, not ${kindOf(value)}`);
}

export function isTable(value: unknown): value is object {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)
  );
}

export function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isTable(value)) return "a table";
  return typeof value === "string" ? `"${cleanLine(value, 80)}"` : cleanLine(String(value), 80);
}

export function placed(text: string, { path, env }: { path: string; env: Environment }): string {
  // Standard input, where a file may be that.
  if (text === "-") return text;
  const home = env["HOME"];
  if (text.startsWith("~/") && home) return join(home, text.slice(2));
  return resolve(dirname(path), text);
}

function knownKeys(specs: readonly OptionSpec[], configKeys: CommandSpec["configKeys"]): string[] {
  const own = configKeys === undefined ? [] : [configKeys.argument, configKeys.rest];
  return [
    ...own,
    ...specs.flatMap(({ flag, table }) => (table === undefined ? [flag] : [flag, table])),
  ];
}

/** With the key that was meant, if one is near. */
export function unknownKey(
  file: TomlFile,
  path: readonly string[],
  options: { known: readonly string[]; isError: boolean; place?: string | null },
): Finding {
  const name = path.at(-1) ?? "";
  const meant = suggest(name.replaceAll("_", "-"), options.known);
  const shown = cleanLine(name, 80);
  const advice =
    options.place != null
      ? `: it belongs under ${options.place}`
      : meant === null
        ? ""
        : `: did you mean "${meant}"?`;
  return {
    isError: options.isError,
    text: `${file.at(path)}: unknown key "${shown}"${advice}`,
  };
}
