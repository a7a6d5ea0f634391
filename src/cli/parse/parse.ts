/** From argv to a command with its options, with our own words for what is wrong. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { type Gathered, gatherConfig } from "../config/layers.ts";
import { type HeadContext, withContext } from "../config/contexts.ts";
import {
  createOptions,
  type Environment,
  type OptionSpec,
  type SourcedText,
} from "../base/options.ts";
import { type CommandSpec, CONFIG_OPTION, globalOptionsOf, type Invocation } from "../base/spec.ts";
import { suggest } from "../base/suggest.ts";
import { type Line, readLine } from "./line.ts";

/**
 * Throws a `usage` LlmnodeError for anything it does not understand. `--help` and `--version`
 * become the commands of these names, which `commands` must contain.
 */
export function parseCommandLine(
  typed: readonly string[],
  commands: readonly CommandSpec[],
  env: Environment,
): Invocation {
  const line = readLine(typed, commands);
  const { command } = line;
  const isOn = (flag: string) => line.flags.get(flag)?.at(-1) === "true";
  const instead = (name: string, words: string[]): Invocation => {
    const found = commands.find((candidate) => candidate.name === name);
    if (found === undefined) throw new Error(`no command ${name}`);
    return invocationOf(found, { ...line, words }, env);
  };
  if (isOn("help")) return instead("help", command === null ? [] : [command.name]);
  if (command === null) {
    if (isOn("version")) return instead("version", []);
    refuseOptions(line);
    if (line.name === null) return instead("help", []);
    throw unknownCommand(line.name, commands);
  }
  if (line.hasExtraWords) throw extraWords(command, line, typed);
  refuseOptions(line);
  const warnings: string[] = [];
  const config = gatherConfig({
    command,
    commands,
    given: givenConfig(command, line, env),
    env,
    report({ isError, text, hint }) {
      if (isError) throw usage(text, hint);
      warnings.push(text);
    },
  });
  const { argument } = command;
  // Not cac's business: the configuration may have it.
  if (argument?.required === true && line.words.length === 0 && config.argument === null) {
    throw usage(`${command.name} needs <${argument.name}>: llmnode ${command.usage}`);
  }
  if (line.rest !== null && command.takesRest !== true) {
    throw usage(`${command.name} takes nothing after "--"`);
  }
  return { ...invocationOf(command, line, env, config), warnings };
}

function invocationOf(
  command: CommandSpec,
  { words, flags, rest }: Line,
  env: Environment,
  config: Gathered | null = null,
): Invocation {
  const given = withContext(config?.contexts ?? new Map<string, HeadContext>(), {
    flags,
    env,
    values: config?.values ?? new Map<string, SourcedText[]>(),
    hasOwnTokenFile: command.options.some(({ flag }) => flag === "token-file"),
  });
  return {
    command,
    words: words.length === 0 && config?.argument ? [config.argument.text] : words,
    rest: rest ?? config?.rest?.words ?? null,
    isRestFromFile: rest === null && Boolean(config?.rest),
    options: createOptions([...command.options, ...globalOptionsOf(command)], {
      flags: given.flags,
      env: given.env,
      file: given.values,
    }),
    env,
    warnings: [],
  };
}

/** The file that `--config` or its variable names, for a command that takes one. */
function givenConfig(command: CommandSpec, line: Line, env: Environment): string | null {
  if (!command.options.includes(CONFIG_OPTION)) return null;
  return createOptions([CONFIG_OPTION], { flags: line.flags, env }).text(CONFIG_OPTION.flag);
}

/** "unknown command ..." with the one that was meant, or all there are. */
export function unknownCommand(word: string, commands: readonly CommandSpec[]): LlmnodeError {
  const shownOnes = commands.filter(({ isHidden }) => isHidden !== true);
  const names = shownOnes.map(({ name }) => name);
  const meant = suggest(word, [...names, ...shownOnes.flatMap(({ aliases }) => aliases ?? [])]);
  const shown = cleanLine(word, 80);
  return usage(
    meant === null
      ? `unknown command "${shown}"; there are: ${names.join(", ")}`
      : `unknown command "${shown}": did you mean "${meant}"?`,
  );
}

/** The action of that name. Throws `usage`, with the one that was meant or with all there are. */
export function actionNamed<A>(
  command: string,
  actions: Readonly<Record<string, A>>,
  word: string,
): A {
  const found = Object.hasOwn(actions, word) ? actions[word] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(actions);
  const meant = suggest(word, names);
  const what = `${command} has no action "${cleanLine(word, 80)}"`;
  throw usage(
    meant === null
      ? `${what}; there are: ${names.join(", ")}`
      : `${what}: did you mean "${meant}"?`,
  );
}

function extraWords(
  command: CommandSpec,
  { words, wordsAt }: Line,
  typed: readonly string[],
): LlmnodeError {
  const expected = [command.argument, command.secondArgument].filter(Boolean).length;
  const explained = command.explainExtraWords?.(words, typed.slice(wordsAt[expected]));
  const extra = cleanLine(words[expected] ?? "", 80);
  return usage(explained ?? `${command.name}: unexpected argument "${extra}"`);
}

/** Throws `usage` for an option that the command does not have, or without the value it needs. */
export function refuseOptions({ command, unknown, malformed }: Line): void {
  if (unknown !== null) throw unknownOption(unknown, command);
  if (malformed === null) return;
  const { spec, value } = malformed;
  throw usage(
    value === null
      ? `--${spec.flag} needs a value: --${spec.flag} ${spec.value ?? ""}`
      : `--${spec.flag} takes no value, not "${cleanLine(value, 80)}"`,
  );
}

function unknownOption(typed: string, command: CommandSpec | null): LlmnodeError {
  const specs: OptionSpec[] = [
    ...(command?.options ?? []),
    ...globalOptionsOf(command ?? undefined),
  ];
  const meant = suggest(
    typed.replace(/^-+/, ""),
    specs.map(({ flag }) => flag),
  );
  const where = command === null ? "" : ` for ${command.name}`;
  const shown = cleanLine(typed, 80);
  return usage(
    meant === null
      ? `unknown option ${shown}${where}; see: llmnode help${command ? ` ${command.name}` : ""}`
      : `unknown option ${shown}${where}: did you mean --${meant}?`,
  );
}
