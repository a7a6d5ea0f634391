/** Reads `docker compose [-f F] up [service ...]`, and the other spellings of compose. */

import type { Environment } from "../../shell-words.ts";
import { readToolCall, type ContainerTool, type ToolCall } from "./command.ts";
import { withoutOptions } from "./inject.ts";
import { COMPOSE_OPTIONS, optionValues, readOptions, UP_OPTIONS, wordSet } from "./words.ts";

export interface ComposeCommand {
  /** What its containers belong to. */
  tool: ContainerTool;
  /** How the tool itself is called: `docker`, also where compose is a program of its own. */
  prefix: readonly string[];
  /** How compose is called, with its own options and the project, up to the subcommand. */
  compose: readonly string[];
  project: string;
  /** The command to run: attached, since the worker stays with it. */
  up: readonly string[];
  /** What the user wrote that was left out: `-d`, `--wait`. */
  leftOut: readonly string[];
}

const TOOLS: Readonly<Record<string, ContainerTool>> = {
  docker: "docker",
  podman: "podman",
  nerdctl: "nerdctl",
  "docker-compose": "docker",
  "podman-compose": "podman",
};

/** What would make `up` return before its containers end, or ask questions. */
const DETACHING = wordSet("-d --detach --wait --wait-timeout -w --watch --menu");

/**
 * The compose command in `argv`, or null if it is none, or starts nothing. `defaultProject` is
 * taken where the user names no project, and so is no other worker's on this machine.
 */
export function readComposeCommand(
  argv: readonly string[],
  env: Environment,
  defaultProject: string,
  call: ToolCall | null = readToolCall(argv, env),
): ComposeCommand | null {
  const tool = call === null ? undefined : TOOLS[call.program];
  if (call === null || tool === undefined) return null;
  const isOwnProgram = call.program.includes("-");
  if (!isOwnProgram && argv[call.next] !== "compose") return null;
  const start = isOwnProgram ? call.at + 1 : call.next + 1;
  const { options, next: upAt } = readOptions(argv, start, COMPOSE_OPTIONS);
  if (argv[upAt] !== "up") return null;
  const named = optionValues(options, "-p", "--project-name").at(-1);
  const project = named ?? (env["COMPOSE_PROJECT_NAME"] || defaultProject);
  const up = readOptions(argv, upAt + 1, UP_OPTIONS);
  const given = named === undefined ? ["-p", project] : [];
  const compose = [...argv.slice(0, start), ...given, ...argv.slice(start, upAt)];
  const program = argv.slice(0, call.at);
  return {
    tool,
    prefix: isOwnProgram ? [...program, tool] : argv.slice(0, call.next),
    compose,
    project,
    up: [...compose, ...withoutOptions(argv, up.options, DETACHING).slice(upAt)],
    leftOut: up.options.filter(({ name }) => DETACHING.has(name)).map(({ name }) => name),
  };
}

/** A project's name: lower case letters, digits, `-` and `_`, a letter or digit first. */
export function projectName(engineId: string): string {
  return `llmnode-${engineId}`.toLowerCase().replace(/[^a-z0-9_-]/g, "-");
}
