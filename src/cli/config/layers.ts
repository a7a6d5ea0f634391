/** The configuration files of a command, which of them there are, and what they say together. */

import { usage } from "../base/messages.ts";
import { statSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { LlmnodeError, systemCode } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import {
  fileSpecs,
  type Finding,
  findSpec,
  GENERAL,
  isTable,
  kindOf,
  readTable,
  type TableValues,
} from "./file.ts";
import { readTomlFile, type TomlFile } from "./toml.ts";
import { type HeadContext, readContexts } from "./contexts.ts";
import type { SourcedText, Environment, OptionSpec } from "../base/options.ts";
import { type CommandSpec, GLOBAL_OPTIONS } from "../base/spec.ts";

/** The newest form of a shared file that this version knows. */
const CONFIG_SCHEMA = 1;
const HERE = "llmnode.toml";
/** What no file of the current folder may say: anybody may have put it there. */
const NEVER_HERE = ["token", "token-file"];
const OF_A_SHARED_FILE = ["schema", "heads"];
const SYSTEM_DIR = "/etc";

/** Options of every command that a shared file has at its top. */
const TOP_LEVEL: readonly OptionSpec[] = [
  ...GLOBAL_OPTIONS.filter(({ flag }) => flag === "timeout"),
  ...GLOBAL_OPTIONS.filter(({ flag }) => flag === "ca").map((ca) => ({ ...ca, isPath: true })),
  ...GENERAL,
];

export interface ConfigSource {
  /** `given`: named by a person; it must be there and is the only one. */
  kind: "given" | "here" | "user" | "system";
  path: string;
}

export interface ConfigPlaces {
  /** By `--config` or its variable. */
  given: string | null;
  env: Environment;
  /** Default: the current folder. */
  cwd?: string;
  /** Default: `/etc`. */
  systemDir?: string;
}

/** The places to look at, the weakest first. */
export function configSources(places: ConfigPlaces): ConfigSource[] {
  const { given, env, cwd = process.cwd(), systemDir = SYSTEM_DIR } = places;
  // The way to say that there is none.
  if (given === "/dev/null") return [];
  if (given !== null) return [{ kind: "given", path: given }];
  const home = env["HOME"] ?? "";
  const xdg = env["XDG_CONFIG_HOME"] ?? "";
  // A relative one is to be ignored, as the XDG base directory specification says.
  const dir = isAbsolute(xdg) ? xdg : isAbsolute(home) ? join(home, ".config") : null;
  return [
    { kind: "system", path: join(systemDir, "llmnode/config.toml") },
    ...(dir === null ? [] : [{ kind: "user" as const, path: join(dir, "llmnode/config.toml") }]),
    { kind: "here", path: resolve(cwd, HERE) },
  ];
}

/** Null for one that is not there, unless it was named. Throws `usage`. */
export function openSource({ kind, path }: ConfigSource): TomlFile | null {
  if (kind === "given") return readTomlFile(path);
  try {
    const { uid, mode } = statSync(path);
    const isOwn = uid === process.getuid?.() || uid === 0;
    if (kind === "here" && (!isOwn || (mode & 0o002) !== 0)) {
      const why = isOwn ? "can be written by everybody" : "belongs to another user";
      throw usage(
        `${cleanLine(path, 200)} ${why}`,
        "take it all the same:   --config ./llmnode.toml",
        "or not:   --config /dev/null",
      );
    }
  } catch (error) {
    if (error instanceof LlmnodeError) throw error;
    // Also where a folder on the way there is none, or not for us.
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(systemCode(error) ?? "")) return null;
    throw error;
  }
  return readTomlFile(path);
}

export interface Gathered extends TableValues {
  files: TomlFile[];
  contexts: Map<string, HeadContext>;
}

export interface GatherOptions extends ConfigPlaces {
  command: CommandSpec;
  /** All there are, to say where a key belongs. */
  commands: readonly CommandSpec[];
  report: (finding: Finding) => void;
}

/** What all files of a command say, the stronger ones winning. Throws `usage`, or reports. */
export function gatherConfig(options: GatherOptions): Gathered {
  const all: Gathered = {
    files: [],
    values: new Map(),
    argument: null,
    rest: null,
    contexts: new Map(),
  };
  for (const source of sourcesFor(options)) {
    const file = openSource(source);
    if (file === null) continue;
    const layer = readLayer(file, source.kind, options);
    all.files.push(file);
    for (const [flag, texts] of layer.values) {
      const spec = options.command.options.find((one) => one.flag === flag);
      const before = spec?.merges === true ? (all.values.get(flag) ?? []) : [];
      all.values.set(flag, [...before, ...texts]);
    }
    all.argument = layer.argument ?? all.argument;
    all.rest = layer.rest ?? all.rest;
    // Each whole: the secret of one file is never sent to the address of another.
    for (const [name, context] of layer.contexts) all.contexts.set(name, context);
  }
  return all;
}

function sourcesFor(options: GatherOptions): ConfigSource[] {
  const { command, given } = options;
  const isAlone = command.isDaemon === true && command.hasConfigTable !== true;
  if (given === null && (command.ignoresConfig === true || isAlone)) return [];
  const isHere = command.isDaemon === true;
  return configSources(options).filter(({ kind }) => kind !== "here" || isHere);
}

type Layer = TableValues & { contexts: Map<string, HeadContext> };

function readLayer(
  file: TomlFile,
  kind: ConfigSource["kind"],
  { command, commands, env, report }: GatherOptions,
): Layer {
  const contexts = new Map<string, HeadContext>();
  const specs = fileSpecs(command);
  const { configKeys } = command;
  if (kind === "given" && !isShared(file)) {
    const read = { file, path: [], table: file.content, specs, isStrict: true, env, report };
    const found = readTable({ ...read, ignored: ["schema"], ...(configKeys && { configKeys }) });
    checkSchema(file, report);
    return { ...found, contexts };
  }
  const top = readTop(file, { env, report, commands });
  const table = file.content[command.name];
  const own =
    command.hasConfigTable === true && isTable(table)
      ? readCommandTable(file, { command, table, env, report })
      : null;
  const values = new Map([...top.values, ...(own?.values ?? [])]);
  if (kind === "here") refuseTokens(values, report);
  return {
    values,
    argument: own?.argument ?? null,
    rest: own?.rest ?? null,
    contexts: kind === "here" ? contexts : readContexts(file, { env, report }),
  };
}

/** What stands above the tables of a shared file. */
export function readTop(
  file: TomlFile,
  options: { commands: readonly CommandSpec[]; env: Environment; report: GatherOptions["report"] },
): TableValues {
  const { commands, env, report } = options;
  checkSchema(file, report);
  const found = readTable({
    file,
    path: [],
    table: file.content,
    specs: TOP_LEVEL,
    ignored: [...OF_A_SHARED_FILE, ...TABLES],
    isStrict: false,
    elsewhere: (key) => {
      const at = commands.find(
        (one) => one.hasConfigTable === true && findSpec(key, fileSpecs(one)) !== null,
      );
      return at === undefined ? null : `[${at.name}]`;
    },
    env,
    report,
  });
  for (const name of TABLES) {
    const value = file.content[name];
    if (value === undefined || isTable(value)) continue;
    const source = `${file.at([name])}: ${name}`;
    if (name === "head" && typeof value === "string" && value !== "") {
      found.values.set("head", [{ text: value, source, at: file.line([name]) }]);
    } else {
      const needed = name === "head" ? "a name of [heads], an address or a table" : "a table";
      report({ isError: true, text: `${source} needs ${needed}, not ${kindOf(value)}` });
    }
  }
  return found;
}

export function readCommandTable(
  file: TomlFile,
  options: {
    command: CommandSpec;
    table: object;
    env: Environment;
    report: GatherOptions["report"];
  },
): TableValues {
  const { command, table, env, report } = options;
  return readTable({
    file,
    path: [command.name],
    table,
    specs: fileSpecs(command),
    ...(command.configKeys && { configKeys: command.configKeys }),
    isStrict: false,
    env,
    report,
  });
}

/** The tables of commands; a test compares them with the command table. */
export const TABLES: readonly string[] = ["head", "join", "top"];

/** Whether a file is for several commands, rather than for the one that it is given to. */
export function isShared({ content }: TomlFile): boolean {
  return [...TABLES, "heads"].some((name) => isTable(content[name]));
}

function checkSchema(file: TomlFile, report: GatherOptions["report"]): void {
  const { schema } = file.content;
  if (schema === undefined || schema === CONFIG_SCHEMA) return;
  const at = file.at(["schema"]);
  if (typeof schema === "number" && Number.isInteger(schema) && schema > CONFIG_SCHEMA) {
    const text = `${at}: schema ${schema} is of a newer llmnode; this one knows ${CONFIG_SCHEMA}, and leaves out what it does not know`;
    report({ isError: false, text });
  } else {
    const text = `${at}: schema needs ${CONFIG_SCHEMA}, not ${kindOf(schema)}`;
    report({ isError: true, text });
  }
}

export function refuseTokens(
  values: ReadonlyMap<string, SourcedText[]>,
  report: GatherOptions["report"],
): void {
  for (const flag of NEVER_HERE) {
    const found = values.get(flag)?.[0];
    if (found === undefined) continue;
    report({
      isError: true,
      text: `${found.source} is not taken from a file of the current folder: use a variable, a flag or ~/.config/llmnode/config.toml`,
    });
  }
}
