/** From argv to a command with its options, through cac, with our own words for what is wrong. */

import { type CAC, cac } from "cac";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { fillBare, type Scan, scanArgv } from "../base/argv.ts";
import { type Gathered, gatherConfig } from "../config/layers.ts";
import { type HeadContext, withContext } from "../config/contexts.ts";
import {
  createOptions,
  type SourcedText,
  type Environment,
  type OptionSpec,
} from "../base/options.ts";
import {
  type CommandSpec,
  CONFIG_OPTION,
  GLOBAL_OPTIONS,
  globalOptionsOf,
  type Invocation,
} from "../base/spec.ts";
import { suggest } from "../base/suggest.ts";

/**
 * Throws a `usage` LlmnodeError for anything it does not understand. `--help` and `--version`
 * become the commands of these names, which `commands` must contain.
 */
export function parseCommandLine(
  typed: readonly string[],
  commands: readonly CommandSpec[],
  env: Environment,
): Invocation {
  const argv = fillBare(
    typed,
    commands.flatMap(({ options }) => options),
  );
  const cli = buildCac(commands);
  cli.parse(["llmnode", "llmnode", ...argv.map(tamed)], { run: false });
  const command = findCommand(commands, cli.matchedCommandName ?? "");
  const specs = [...(command?.options ?? []), ...globalOptionsOf(command)];
  const scan = scanArgv(argv, specs);
  const isOn = (flag: string) => scan.flags.get(flag)?.at(-1) === "true";
  const warnings: string[] = [];

  const build = (
    spec: CommandSpec,
    typed: readonly string[],
    config: Gathered | null = null,
  ): Invocation => {
    const values = config?.values ?? new Map<string, SourcedText[]>();
    const given = withContext(config?.contexts ?? new Map<string, HeadContext>(), {
      flags: scan.flags,
      env,
      values,
      hasOwnTokenFile: spec.options.some(({ flag }) => flag === "token-file"),
    });
    return {
      command: spec,
      words: typed.length === 0 && config?.argument ? [config.argument.text] : typed,
      rest: scan.rest ?? config?.rest?.words ?? null,
      isRestFromFile: scan.rest === null && Boolean(config?.rest),
      options: createOptions([...spec.options, ...globalOptionsOf(spec)], {
        flags: given.flags,
        env: given.env,
        file: given.values,
      }),
      env,
      warnings,
    };
  };
  const named = (name: string): CommandSpec => {
    const found = commands.find((candidate) => candidate.name === name);
    if (found === undefined) throw new Error(`no command ${name}`);
    return found;
  };
  if (isOn("help")) return build(named("help"), command === undefined ? [] : [command.name]);
  if (isOn("version") && command === undefined) return build(named("version"), []);
  if (command === undefined) {
    rejectUnknownFlags(scan, specs, null);
    const word = scan.words[0];
    if (word === undefined) return build(named("help"), []);
    throw unknownCommand(word, commands);
  }
  const words = scan.words.slice(1);
  rejectExtraWords(command, { words, typed: argv.slice(scan.wordsAt[0] ?? 0) }, scan);
  rejectUnknownFlags(scan, specs, command);
  rejectMalformed(scan);
  const config = gatherConfig({
    command,
    commands,
    given: givenConfig(command, scan, env),
    env,
    report({ isError, text, hint }) {
      if (isError) throw usage(text, hint);
      warnings.push(text);
    },
  });
  const hasArgument = words.length > 0 || config.argument !== null;
  if (command.argument?.required === true && !hasArgument) {
    throw usage(`${command.name} needs <${command.argument.name}>: llmnode ${command.usage}`);
  }
  if (scan.rest !== null && command.takesRest !== true) {
    throw usage(`${command.name} takes nothing after "--"`);
  }
  confirm(cli);
  return build(command, words, config);
}

/** The file that `--config` or its variable names, for a command that takes one. */
function givenConfig(command: CommandSpec, scan: Scan, env: Environment): string | null {
  if (!command.options.includes(CONFIG_OPTION)) return null;
  return createOptions([CONFIG_OPTION], { flags: scan.flags, env }).text(CONFIG_OPTION.flag);
}

/** The command that goes by this word. */
export function findCommand(
  commands: readonly CommandSpec[],
  word: string,
): CommandSpec | undefined {
  return commands.find(({ name, aliases }) => name === word || aliases?.includes(word) === true);
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

/** The table in cac's terms; cac selects the command and knows how global options mix in. */
function buildCac(commands: readonly CommandSpec[]): CAC {
  const cli = cac("llmnode");
  for (const spec of GLOBAL_OPTIONS) cli.option(rawName(spec), spec.summary);
  for (const command of commands) {
    const words = [command.argument, command.secondArgument]
      .map((argument) => {
        if (argument === undefined) return "";
        // What may come from a configuration file as well is not missing when it is not typed.
        const isTyped = argument.required && command.configKeys === undefined;
        const name = argument.repeats === true ? `...${argument.name}` : argument.name;
        return isTyped ? ` <${name}>` : ` [${name}]`;
      })
      .join("");
    const entry = cli.command(`${command.name}${words}`, command.summary);
    for (const alias of command.aliases ?? []) entry.alias(alias);
    for (const spec of command.options) entry.option(rawName(spec), spec.summary);
    entry.action(() => undefined);
  }
  return cli;
}

/**
 * A word without what cac trips over: it builds objects of dots in flags, and is slow with many
 * letters behind one dash. No flag of ours has either; as typed it is read by `scanArgv`.
 */
function tamed(word: string): string {
  if (!word.startsWith("-")) return word;
  const end = word.includes("=") ? word.indexOf("=") : word.length;
  const name = word.slice(0, end).replaceAll(".", "-");
  return `${/^--[^-]/.test(word) ? name : name.slice(0, MAX_LETTERS)}${word.slice(end)}`;
}

const MAX_LETTERS = 64;

function rawName(spec: OptionSpec): string {
  const short = spec.short === undefined ? "" : `-${spec.short}, `;
  return `${short}--${spec.flag}${spec.value === undefined ? "" : ` ${spec.value}`}`;
}

/** cac's own checks, as a second opinion: what it refuses is refused here too. */
function confirm(cli: CAC): void {
  try {
    cli.runMatchedCommand();
  } catch (error) {
    if (error instanceof Error && error.name === "CACError") throw usage(error.message);
    throw error;
  }
}

function rejectExtraWords(
  command: CommandSpec,
  { words, typed }: { words: readonly string[]; typed: readonly string[] },
  scan: Scan,
): void {
  const { argument, secondArgument } = command;
  if (argument?.repeats === true) return;
  const expected = [argument, secondArgument].filter((one) => one !== undefined).length;
  const extra = words[expected];
  if (extra === undefined) return;
  const start = (scan.wordsAt[expected + 1] ?? 0) - (scan.wordsAt[0] ?? 0);
  const explained = command.explainExtraWords?.(words, typed.slice(start));
  throw usage(explained ?? `${command.name}: unexpected argument "${cleanLine(extra, 80)}"`);
}

function rejectUnknownFlags(
  scan: Scan,
  specs: readonly OptionSpec[],
  command: CommandSpec | null,
): void {
  const flag = scan.unknown[0];
  if (flag === undefined) return;
  const meant = suggest(
    flag.replace(/^-+/, ""),
    specs.map((spec) => spec.flag),
  );
  const where = command === null ? "" : ` for ${command.name}`;
  const shown = cleanLine(flag, 80);
  throw usage(
    meant === null
      ? `unknown option ${shown}${where}; see: llmnode help${command ? ` ${command.name}` : ""}`
      : `unknown option ${shown}${where}: did you mean --${meant}?`,
  );
}

function rejectMalformed(scan: Scan): void {
  const wrong = scan.malformed[0];
  if (wrong === undefined) return;
  const { spec, value } = wrong;
  throw usage(
    value === null
      ? `--${spec.flag} needs a value: --${spec.flag} ${spec.value ?? ""}`
      : `--${spec.flag} takes no value, not "${cleanLine(value, 80)}"`,
  );
}

function usage(message: string, hint?: string): LlmnodeError {
  return new LlmnodeError("usage", message, hint === undefined ? {} : { hints: [hint] });
}
