/** What the word that is being typed at a shell can become. */

import { readLine } from "../parse/line.ts";
import { type CommandSpec, globalOptionsOf } from "../base/spec.ts";
import type { OptionSpec } from "../base/options.ts";

export interface Candidate {
  value: string;
  /** A few words about it; may be empty. */
  note: string;
}

export interface Completion {
  candidates: Candidate[];
  /** Whether names of files fit as well. */
  files: boolean;
}

/** Names that only the head knows. */
export type LiveKind = "workers" | "models" | "engines" | "requests";

export interface CompletionSource {
  commands: readonly CommandSpec[];
  /** Never throws; empty where the head does not say. */
  names: (kind: LiveKind) => Promise<Candidate[]>;
}

/** Arguments by how commands call them. */
const LIVE: Readonly<Record<string, readonly LiveKind[]>> = {
  worker: ["workers"],
  model: ["models"],
  engine: ["engines", "workers"],
  request: ["requests"],
  "worker|model": ["workers", "models"],
};

const NONE: Completion = { candidates: [], files: false };

/** `words` come after the program's name; the last one is being typed, and may be empty. */
export async function complete(
  words: readonly string[],
  source: CompletionSource,
): Promise<Completion> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  const { name, command, words: given } = readLine(before, source.commands);
  // Behind a word that is no command nothing makes sense.
  if (name !== null && command === null) return NONE;
  if (before.includes("--")) return { candidates: [], files: command?.takesRest === true };
  const specs = [...(command?.options ?? []), ...globalOptionsOf(command ?? undefined)];
  const asking = optionThatAsks(before.at(-1) ?? "", specs);
  if (asking !== null) return valuesOf(asking, { prefix: "", current });
  if (/^--[^=]+=/.test(current)) {
    const flag = current.slice(2, current.indexOf("="));
    const spec = specs.find((one) => one.flag === flag);
    return spec === undefined ? NONE : valuesOf(spec, { prefix: `--${flag}=`, current });
  }
  if (current.startsWith("-")) return fitting(flagsOf(before, specs), current);
  if (command === null) return fitting(commandsOf(source.commands), current);
  const candidates = await argumentsOf(command, given, source);
  return fitting(candidates, current);
}

/** The option that the word before waits for a value with. */
function optionThatAsks(word: string, specs: readonly OptionSpec[]): OptionSpec | null {
  const spec = word.startsWith("--")
    ? specs.find(({ flag }) => word === `--${flag}`)
    : /^-[A-Za-z]+$/.test(word)
      ? specs.find(({ short }) => short === word.at(-1))
      : undefined;
  return spec?.value === undefined || spec.bare !== undefined ? null : spec;
}

function valuesOf(
  spec: OptionSpec,
  { prefix, current }: { prefix: string; current: string },
): Completion {
  if (spec.isPath === true || /^<(file|dir)>$/.test(spec.value ?? ""))
    return { candidates: [], files: true };
  const choices = spec.choices ?? [];
  return fitting(
    choices.map((choice) => ({ value: `${prefix}${choice}`, note: "" })),
    current,
  );
}

/** Those that can still be given. */
function flagsOf(before: readonly string[], specs: readonly OptionSpec[]): Candidate[] {
  const given = new Set(before.map((word) => word.replace(/=.*$/, "")));
  return specs
    .filter(({ flag, repeat }) => repeat === true || !given.has(`--${flag}`))
    .map(({ flag, summary }) => ({ value: `--${flag}`, note: summary }));
}

function commandsOf(commands: readonly CommandSpec[]): Candidate[] {
  return commands
    .filter(({ isHidden }) => isHidden !== true)
    .map(({ name, summary }) => ({ value: name, note: summary }));
}

async function argumentsOf(
  { argument, secondArgument }: CommandSpec,
  given: readonly string[],
  { commands, names }: CompletionSource,
): Promise<Candidate[]> {
  const isFirst = given.length === 0 || argument?.repeats === true;
  const wanted = isFirst ? argument : given.length === 1 ? secondArgument : undefined;
  if (wanted === undefined) return [];
  if (wanted.words !== undefined) return wanted.words.map((value) => ({ value, note: "" }));
  if (wanted.name === "command") return commandsOf(commands);
  const found = await Promise.all((LIVE[wanted.name] ?? []).map(names));
  return found.flat().filter(({ value }) => !given.includes(value));
}

function fitting(candidates: readonly Candidate[], current: string): Completion {
  return { candidates: candidates.filter(({ value }) => value.startsWith(current)), files: false };
}
