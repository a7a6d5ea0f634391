/** The environment that an engine gets: this program's own, and what `join` was told to add. */

import { usage } from "../base/messages.ts";
import { cleanLine } from "../../util/text.ts";
import type { Options, Environment } from "../base/options.ts";
import { readTextFile } from "../base/text-file.ts";

/** What a variable for the engine is called while it is on its way there through this program. */
export const ENGINE_VARIABLE_PREFIX = "LLMNODE_SET_";

/**
 * Takes `--env NAME=value` out of what stands before the engine's command. Of several for one name
 * the last counts, be it `--env NAME`; what is neither stays, to be refused by those who read it.
 */
export function withoutEngineVariables(typed: readonly string[]): {
  args: string[];
  variables: Record<string, string>;
} {
  const end = typed.includes("--") ? typed.indexOf("--") : typed.length;
  const args: string[] = [];
  const last = new Map<string, { value: string | null; at: number }>();
  const shadowed = new Set<number>();
  for (let i = 0; i < end; i += 1) {
    const word = typed[i] ?? "";
    const next = typed[i + 1] ?? "-";
    const isSplit = word === "--env" && i + 1 < end && !next.startsWith("-");
    const text = isSplit ? next : word.startsWith("--env=") ? word.slice("--env=".length) : "";
    const [, name, value = null] = /^([^=\s]+)(?:=([^]*))?$/.exec(text) ?? [];
    if (name !== undefined) {
      const before = last.get(name);
      if (before?.value === null) shadowed.add(before.at);
      last.set(name, { value, at: args.length });
    }
    if (name === undefined || value === null) args.push(isSplit ? `--env=${next}` : word);
    if (isSplit) i += 1;
  }
  const moved = [...last].flatMap(([name, { value }]): [string, string][] =>
    value === null ? [] : [[`${ENGINE_VARIABLE_PREFIX}${name}`, value]],
  );
  return {
    args: [...args.filter((_, i) => !shadowed.has(i)), ...typed.slice(end)],
    variables: Object.fromEntries(moved),
  };
}

/**
 * Variables that engines read (TGI and TEI all three) and that are about something else here: the
 * name of this machine or container, the port and the key of another program.
 */
const NOT_INHERITED: readonly string[] = ["API_KEY", "HOSTNAME", "PORT"];

export interface EngineVariables {
  env: Environment;
  /** Names that people may expect the engine to have, and that it is not given. */
  withheld: string[];
}

/**
 * This environment, then `--env-file`, then `--env`, each winning over those before. Throws `usage`;
 * no message shows a value.
 */
export function readEngineVariables(options: Options, env: Environment): EngineVariables {
  const given = new Map<string, string>();
  for (const { text } of options.each("env-file")) {
    for (const [name, value] of readEnvFile(text)) given.set(name, value);
  }
  const pairs = options.each("env");
  const isTyped = ({ source }: { source: string }) => source === "--env";
  for (const { text, source } of pairs.filter((pair) => !isTyped(pair))) {
    given.set(...readPair(text, source, env));
  }
  for (const [name, value] of Object.entries(env)) {
    if (name.startsWith(ENGINE_VARIABLE_PREFIX) && value !== undefined) {
      const own = name.slice(ENGINE_VARIABLE_PREFIX.length);
      given.set(...readPair(`${own}=${value}`, "--env", env));
    }
  }
  for (const { text, source } of pairs.filter(isTyped)) given.set(...readPair(text, source, env));
  const left = NOT_INHERITED.filter((name) => env[name] !== undefined && !given.has(name));
  return {
    env: {
      ...env,
      ...Object.fromEntries(NOT_INHERITED.map((name) => [name, undefined])),
      ...Object.fromEntries(given),
    },
    // Every container has a HOSTNAME, and nobody expects an engine to be given it.
    withheld: left.filter((name) => name !== "HOSTNAME"),
  };
}

/**
 * Docker's format: a line is `NAME=value`, empty, or a comment after `#` at its start. The value is
 * all that follows the `=`, quotes and spaces included.
 */
export function readEnvFile(path: string): [string, string][] {
  const shown = cleanLine(path, 200);
  const text = readTextFile(path, { named: `--env-file ${shown}` });
  return text.split("\n").flatMap((line, i): [string, string][] => {
    const content = line.replace(/\r$/, "").trimStart();
    if (content === "" || content.startsWith("#")) return [];
    const place = `${shown}:${i + 1}`;
    const equals = content.indexOf("=");
    // It may be half of a secret: it is not shown.
    if (equals === -1) {
      throw usage(`${place} has no "=": write NAME=value, or pass the shell's own by --env NAME`);
    }
    const name = content.slice(0, equals);
    if (/^export\s/.test(name)) throw usage(`${place} says "export": write NAME=value alone`);
    checkName(name, place);
    return [[name, content.slice(equals + 1)]];
  });
}

/** `NAME=value`, or `NAME` for the one that this program has. */
function readPair(text: string, source: string, env: Environment): [string, string] {
  const equals = text.indexOf("=");
  const name = equals === -1 ? text : text.slice(0, equals);
  checkName(name, source);
  if (equals !== -1) return [name, text.slice(equals + 1)];
  const value = env[name];
  if (value !== undefined) return [name, value];
  throw usage(`${source} ${name}: it is not set here; export it first, or write NAME=value`);
}

function checkName(name: string, source: string): void {
  if (!/^[^\s=\p{Cc}]{1,256}$/u.test(name)) {
    throw usage(
      `${source} needs NAME=value or NAME, and this has no name that a variable can have`,
    );
  }
  if (name.startsWith("LLMNODE_")) {
    throw usage(`${source} ${name}: engines are not given what is meant for llmnode`);
  }
}
