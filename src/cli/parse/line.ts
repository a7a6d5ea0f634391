/** What was typed, by the command table: the command, its words, the values of its options. */

import { parseArgs } from "node:util";
import { type CAC, cac, type Command } from "cac";
import type { OptionSpec } from "../base/options.ts";
import { type CommandSpec, GLOBAL_OPTIONS, globalOptionsOf } from "../base/spec.ts";

// Who does what. cac has the table: commands, aliases, arguments and options are registered with it;
// it selects the command, collects the values, finds unknown options, missing values and words too
// many, and makes the help pages. `parseArgs` of node:util cuts the words, because cac 7.1.0 makes 7
// of "007" and objects of dots, takes the word behind a switch, knows "--no-x" of any "--x", and
// tells no positions; what it found is handed to cac in a form that cac cannot misread (`plain`).
// Ours are the words after "--", options that may stand alone, and the texts of messages (parse.ts),
// the environment and the configuration files (base/options.ts, config/).

export interface Line {
  /** Null when its first word is no command, or there is none. */
  command: CommandSpec | null;
  /** The first word. */
  name: string | null;
  /** The words after that one, exactly as typed, and where each stands. */
  words: string[];
  wordsAt: number[];
  /** The values of each option that was given, in order; a switch has "true" or "false". */
  flags: Map<string, string[]>;
  /** Everything after the first `--`; null without one. */
  rest: string[] | null;
  /** The first option that the command does not have, as typed without its value. */
  unknown: string | null;
  /** The first option without the value that it needs, or a switch with one. */
  malformed: { spec: OptionSpec; value: string | null } | null;
  /** Whether there are more words than the command takes. */
  hasExtraWords: boolean;
}

type Token = Exclude<
  NonNullable<ReturnType<typeof parseArgs>["tokens"]>[number],
  { kind: "option-terminator" }
>;

/** More switches in one word mean nothing, and are slow to take apart. */
const MAX_LETTERS = 64;

export function readLine(typed: readonly string[], commands: readonly CommandSpec[]): Line {
  const end = typed.indexOf("--");
  const all = [...GLOBAL_OPTIONS, ...commands.flatMap(({ options }) => options)];
  const tokens = tokensOf(fillBare(end === -1 ? typed : typed.slice(0, end), all), all);
  const words = tokens.filter((token) => token.kind === "positional");
  const options = tokens.filter((token) => token.kind === "option");
  const cli = buildCac(commands);
  const unknown = options.find((token) => specOf(token, all) === null);
  const shown = options.filter((token) => specOf(token, all) !== null);
  const plain = [
    ...words.map(({ value }, i) => (i === 0 && /^\w/.test(value) ? value : kept(value))),
    ...shown.flatMap((token) => plainOption(token, specOf(token, all))),
    ...(unknown === undefined ? [] : [`--?${unknown.name}`]),
  ];
  cli.parse(["", "", ...plain], { run: false });
  const command = findCommand(commands, cli.matchedCommandName ?? "") ?? null;
  const matched: Command = cli.matchedCommand ?? cli.globalCommand;
  const specs = [...(command?.options ?? []), ...globalOptionsOf(command ?? undefined)];
  const stranger = options.find((token) => specOf(token, specs) === null);
  return {
    command,
    name: words[0]?.value ?? null,
    words: words.slice(1).map(({ value }) => value),
    wordsAt: words.slice(1).map(({ index }) => index),
    flags: new Map(
      specs.flatMap((spec) => {
        const values = valuesOf(spec, matched, cli);
        return values.length === 0 ? [] : [[spec.flag, values]];
      }),
    ),
    rest: end === -1 ? null : typed.slice(end + 1),
    unknown: isRefused(() => matched.checkUnknownOptions()) ? (stranger?.rawName ?? null) : null,
    malformed: malformedOf(
      options,
      specs,
      isRefused(() => matched.checkOptionValue()),
    ),
    hasExtraWords: command !== null && isRefused(() => matched.checkUnusedArgs()),
  };
}

/** The command that goes by this word. */
export function findCommand(
  commands: readonly CommandSpec[],
  word: string,
): CommandSpec | undefined {
  return commands.find(({ name, aliases }) => name === word || aliases?.includes(word) === true);
}

/** The command table in cac's terms. */
export function buildCac(commands: readonly CommandSpec[]): CAC {
  const cli = cac("llmnode");
  // What is a default is known to `createOptions`, with the layers above it.
  cli.globalCommand.ignoreOptionDefaultValue();
  for (const spec of GLOBAL_OPTIONS) cli.option(rawName(spec), summaryOf(spec));
  for (const command of commands) {
    const words = [command.argument, command.secondArgument].flatMap((argument) => {
      if (argument === undefined) return [];
      const name = argument.repeats === true ? `...${argument.name}` : argument.name;
      return argument.required ? ` <${name}>` : ` [${name}]`;
    });
    const entry = cli.command(`${command.name}${words.join("")}`, command.summary);
    entry.usage(command.usage);
    for (const alias of command.aliases ?? []) entry.alias(alias);
    for (const spec of command.options) entry.option(rawName(spec), summaryOf(spec));
    for (const example of command.examples) entry.example(example);
    entry.ignoreOptionDefaultValue();
  }
  return cli;
}

function rawName({ flag, short, value, bare }: OptionSpec): string {
  const placeholder = bare === undefined ? value : `[${value?.slice(1, -1)}]`;
  return `${short === undefined ? "" : `-${short}, `}--${flag}${placeholder === undefined ? "" : ` ${placeholder}`}`;
}

function summaryOf(spec: OptionSpec): string {
  const fallback = spec.defaultNote ?? spec.default;
  const notes = [
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
    ...(spec.env === undefined ? [] : [`env: ${spec.env}`]),
  ];
  const repeat = spec.repeat === true ? ", repeatable" : "";
  return `${spec.summary}${repeat}${notes.length === 0 ? "" : ` [${notes.join(", ")}]`}`;
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

/** A value that starts with a dash needs the `--flag=value` form: `--name --json` lacks one. */
function tokensOf(argv: readonly string[], all: readonly OptionSpec[]): Token[] {
  const args = argv.map((word, i) => {
    if (/^-[^-]/.test(word)) return word.slice(0, MAX_LETTERS);
    const isNeedy = word.startsWith("--") && argv[i + 1]?.startsWith("-") === true;
    const spec = isNeedy ? all.find(({ flag }) => word === `--${flag}`) : undefined;
    return spec?.value === undefined ? word : `${word}=`;
  });
  const kinds = all.map(({ flag, short, value }) => {
    const type = value === undefined ? ("boolean" as const) : ("string" as const);
    return [flag, short === undefined ? { type } : { type, short }] as const;
  });
  const { tokens } = parseArgs({
    args,
    options: Object.fromEntries(kinds),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  return tokens.filter((token) => token.kind !== "option-terminator");
}

type OptionToken = Extract<Token, { kind: "option" }>;

/** Commands may have the same letter for different options. */
function specOf({ name, rawName: typed }: OptionToken, specs: readonly OptionSpec[]) {
  const isShort = !typed.startsWith("--");
  return specs.find(({ flag, short }) => (isShort ? typed === `-${short}` : name === flag)) ?? null;
}

/** The value of an option that needs one; null where it is missing. */
function valueOf({ value, inlineValue, rawName: typed }: OptionToken): string | null {
  if (value === undefined || value === "") return null;
  const isShort = !typed.startsWith("--");
  return isShort && (inlineValue || value.startsWith("-")) ? null : value;
}

function plainOption(token: OptionToken, spec: OptionSpec | null): string[] {
  const { rawName: typed, value } = token;
  if (spec?.value !== undefined) {
    const text = valueOf(token);
    return [text === null ? typed : `${typed}=${kept(text)}`];
  }
  if (value === undefined || value === "true") return [typed];
  if (value !== "false") return [];
  return [typed.startsWith("--no-") ? typed.replace("--no-", "--") : `${typed}=false`];
}

/** Text that is neither a number nor empty, whatever was typed. */
function kept(text: string): string {
  return `=${text}`;
}

function valuesOf({ flag, value }: OptionSpec, matched: Command, cli: CAC): string[] {
  const known = [...matched.options, ...cli.globalCommand.options];
  const option = known.find(({ rawName: raw }) => /--(\S+)/.exec(raw)?.[1] === flag);
  const given: unknown[] = option === undefined ? [] : [cli.options[option.name] ?? []].flat();
  return given.flatMap((one) => {
    if (value === undefined) return [String(one === (option?.negated !== true))];
    return typeof one === "string" ? [one.slice(1)] : [];
  });
}

function malformedOf(
  options: readonly OptionToken[],
  specs: readonly OptionSpec[],
  isValueMissing: boolean,
): Line["malformed"] {
  for (const token of options) {
    const spec = specOf(token, specs);
    if (spec === null) continue;
    if (spec.value === undefined) {
      const { value } = token;
      if (value !== undefined && value !== "true" && value !== "false") return { spec, value };
    } else if (isValueMissing && valueOf(token) === null) {
      return { spec, value: null };
    }
  }
  return null;
}

function isRefused(check: () => void): boolean {
  try {
    check();
    return false;
  } catch (error) {
    if (error instanceof Error && error.name === "CACError") return true;
    throw error;
  }
}
