/** Reads a command's options from a TOML file, each by the name of its flag. */

import { dirname, join, resolve } from "node:path";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { cleanLine } from "../util/text.ts";
import type { SourcedText } from "./options.ts";
import type { CommandSpec, Environment, OptionSpec } from "./spec.ts";
import { suggest } from "./suggest.ts";
import { readTextFile } from "./text-file.ts";

export interface ConfigFile {
  /** By flag. */
  values: ReadonlyMap<string, SourcedText[]>;
  /** The command's argument. */
  argument: string | null;
  /** What stands after `--` on a command line. */
  rest: string[] | null;
}

/** What the file says in one place. */
interface Entry {
  key: string;
  value: unknown;
  /** For messages: `worker.toml: port`. */
  source: string;
}

/** Options of every command that mean something in the file of one that runs until it is stopped. */
const GENERAL: readonly OptionSpec[] = [
  { flag: "debug", summary: "" },
  { flag: "no-color", summary: "" },
];

/**
 * A key is a flag without its dashes, with `-` or `_` inside; `adopt = false` is `no-adopt = true`.
 * Relative paths start at the file's folder, `~/` at the home in `env`. Throws `usage`, in one line
 * that names the file and the key, for whatever cannot be taken as it stands.
 */
export function readConfigFile(path: string, command: CommandSpec, env: Environment): ConfigFile {
  const shown = cleanLine(path, 200);
  const content = parseToml(readTextFile(path, { named: shown, isReadTwice: true }), shown);
  const specs = [...command.options.filter(({ flag }) => flag !== "config"), ...GENERAL];
  const keys = command.configKeys;
  const values = new Map<string, SourcedText[]>();
  let argument: string | null = null;
  let rest: string[] | null = null;
  for (const [name, value] of Object.entries(content)) {
    const key = name.replaceAll("_", "-");
    const entry = { key, value, source: `${shown}: ${cleanLine(name, 80)}` };
    if (keys !== undefined && key === keys.argument) argument = readArgument(entry);
    else if (keys !== undefined && key === keys.rest) rest = readRest(entry);
    else {
      const spec = findSpec(key, specs);
      if (spec === null) throw unknownKey(name, shown, knownKeys(specs, command));
      const texts = readOption(entry, spec).map((found) => ({
        ...found,
        text: spec.isPath === true ? placed(found.text, { path, env }) : found.text,
      }));
      const before = values.get(spec.flag);
      if (before !== undefined && spec.repeat !== true) {
        throw usage(`${entry.source} says again what ${before[0]?.source ?? spec.flag} said`);
      }
      values.set(spec.flag, [...(before ?? []), ...texts]);
    }
  }
  return { values, argument, rest };
}

/** Bun's parser does not say where it stopped: the first lines that fail in the same way do. */
function parseToml(text: string, shown: string): object {
  const failed = failureOf(text);
  if (failed === null) return Bun.TOML.parse(text);
  const lines = text.split("\n");
  const at = lines.findIndex(
    (_, i) => failureOf(`${lines.slice(0, i + 1).join("\n")}\n`) === failed,
  );
  throw usage(`${shown}${at === -1 ? "" : `:${at + 1}`}: ${failed}`);
}

function failureOf(text: string): string | null {
  try {
    Bun.TOML.parse(text);
    return null;
  } catch (error) {
    return messageOf(error).replace(/^TOML Parse error: /, "");
  }
}

function findSpec(key: string, specs: readonly OptionSpec[]): OptionSpec | null {
  return (
    specs.find(({ flag, table }) => flag === key || table === key) ??
    specs.find(({ flag, value }) => value === undefined && flag === `no-${key}`) ??
    null
  );
}

function readOption({ key, value, source }: Entry, spec: OptionSpec): SourcedText[] {
  if (spec.value === undefined) {
    if (typeof value !== "boolean")
      throw usage(`${source} takes true or false, not ${kindOf(value)}`);
    return [{ text: String(value === (key === spec.flag)), source }];
  }
  if (spec.bare !== undefined && typeof value === "boolean") {
    return [{ text: value ? spec.bare : "off", source }];
  }
  if (spec.table !== undefined && isTable(value)) {
    return Object.entries(value).map(([name, part]) => {
      const place = `${source}.${cleanLine(name, 80)}`;
      return { text: `${name}=${textOf(part, place, "text")}`, source: place };
    });
  }
  if (Array.isArray(value)) {
    if (spec.repeat !== true) throw usage(`${source} takes one value, not a list`);
    return value.map((part: unknown) => ({ text: textOf(part, source, spec.value), source }));
  }
  const text = textOf(value, source, spec.value);
  if (text === "") throw usage(`${source} is empty`);
  return [{ text, source }];
}

function readArgument({ value, source }: Entry): string {
  if (typeof value !== "string") throw usage(`${source} needs text, not ${kindOf(value)}`);
  if (value === "") throw usage(`${source} is empty`);
  return value;
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
  if (isMoment(value)) return String(value);
  throw usage(`${source} needs ${needed ?? "text"}, not ${kindOf(value)}`);
}

/** Bun's parser makes Temporal objects of dates and times. */
function isMoment(value: unknown): boolean {
  const tag: unknown =
    typeof value === "object" && value !== null && Object(value)[Symbol.toStringTag];
  return typeof tag === "string" && tag.startsWith("Temporal.");
}

function isTable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isMoment(value);
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isTable(value)) return "a table";
  return typeof value === "string" ? `"${cleanLine(value, 80)}"` : cleanLine(String(value), 80);
}

function placed(text: string, { path, env }: { path: string; env: Environment }): string {
  // Standard input, where a file may be that.
  if (text === "-") return text;
  const home = env["HOME"];
  if (text.startsWith("~/") && home) return join(home, text.slice(2));
  return resolve(dirname(path), text);
}

function knownKeys(specs: readonly OptionSpec[], { configKeys }: CommandSpec): string[] {
  const own = configKeys === undefined ? [] : [configKeys.argument, configKeys.rest];
  return [
    ...own,
    ...specs.flatMap(({ flag, table }) => (table === undefined ? [flag] : [flag, table])),
  ];
}

function unknownKey(name: string, shown: string, known: readonly string[]): LlmnodeError {
  const meant = suggest(name.replaceAll("_", "-"), known);
  return usage(
    `${shown}: unknown key "${cleanLine(name, 80)}"${meant === null ? "" : `: did you mean "${meant}"?`}`,
  );
}

function usage(message: string): LlmnodeError {
  return new LlmnodeError("usage", message);
}
