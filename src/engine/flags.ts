/** Finds the values of flags in an argument list without knowing the other flags. */

export interface FlagSyntax {
  /** Whether a flag may be cut short, as Python's argparse allows. Default false. */
  prefixes?: boolean;
}

// Shorter than this a prefix is more likely another flag.
const MIN_PREFIX = 5;

/** Every value given for one of `names`, in order. Names are written with dashes, not underscores. */
export function flagValues(
  args: readonly string[],
  names: readonly string[],
  syntax: FlagSyntax = {},
): string[] {
  const found: string[] = [];
  for (let i = 0; i < args.length; i += 1) {
    const flag = readFlag(args[i] ?? "");
    if (!flag || !matches(flag.name, names, syntax)) continue;
    const value = flag.value ?? args[i + 1];
    if (value === undefined) continue;
    found.push(value);
    if (flag.value === null) i += 1;
  }
  return found;
}

/** The value that counts when a flag is given more than once: the last. */
export function lastFlag(
  args: readonly string[],
  names: readonly string[],
  syntax: FlagSyntax = {},
): string | null {
  return flagValues(args, names, syntax).at(-1) ?? null;
}

/** The values of a flag that takes several words: all up to the next flag. The last use counts. */
export function listFlag(
  args: readonly string[],
  names: readonly string[],
  syntax: FlagSyntax = {},
): string[] {
  let found: string[] = [];
  for (let i = 0; i < args.length; i += 1) {
    const flag = readFlag(args[i] ?? "");
    if (!flag || !matches(flag.name, names, syntax)) continue;
    const rest = args.slice(i + 1);
    const end = rest.findIndex((arg) => arg.startsWith("-"));
    const words = end < 0 ? rest : rest.slice(0, end);
    found = flag.value === null ? words : [flag.value];
  }
  return found;
}

/** Whether one of `names` is given, with or without a value. */
export function hasFlag(
  args: readonly string[],
  names: readonly string[],
  syntax: FlagSyntax = {},
): boolean {
  return args.some((arg) => {
    const flag = readFlag(arg);
    return flag !== null && matches(flag.name, names, syntax);
  });
}

/** The first word that is no flag, nor seems its value. `lists`: flags of several words. */
export function firstPositional(
  args: readonly string[],
  lists: readonly string[] = [],
): string | null {
  for (let i = 0; i < args.length; i += 1) {
    const arg = args[i] ?? "";
    const flag = readFlag(arg);
    if (!flag) return arg;
    if (flag.value !== null || isSwitch(flag.name)) continue;
    const isList = lists.includes(flag.name);
    while (args[i + 1] !== undefined && !args[i + 1]?.startsWith("-")) {
      i += 1;
      if (!isList) break;
    }
  }
  return null;
}

/** A port as a flag gives it, or null when it is none. */
export function portNumber(text: string | null | undefined): number | null {
  if (text === null || text === undefined || !/^\d{1,5}$/.test(text)) return null;
  const port = Number(text);
  return port <= 65535 ? port : null;
}

/** A whole number from 0 on as a flag gives it, or null when it is none. */
export function wholeNumber(text: string | null | undefined): number | null {
  return text !== null && text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

/** The product of parallel sizes: one that is not given counts as 1. Null when one is 0. */
export function productOf(...texts: (string | null | undefined)[]): number | null {
  const product = texts.reduce((all, text) => all * (wholeNumber(text) ?? 1), 1);
  return product > 0 ? product : null;
}

/** The parts of a comma list, without empty ones. */
export function commaList(text: string | null | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function readFlag(arg: string): { name: string; value: string | null } | null {
  if (!/^-{1,2}[A-Za-z]/.test(arg)) return null;
  const cut = arg.indexOf("=");
  const name = cut < 0 ? arg : arg.slice(0, cut);
  const value = cut < 0 ? null : arg.slice(cut + 1);
  return { name: name.replaceAll("_", "-"), value };
}

function matches(name: string, names: readonly string[], syntax: FlagSyntax): boolean {
  if (names.includes(name)) return true;
  if (syntax.prefixes !== true || name.length < MIN_PREFIX || !name.startsWith("--")) return false;
  return names.some((full) => full.startsWith(name));
}

// Flags of engines that stand alone; wrong guesses only cost the hint of a model name.
function isSwitch(name: string): boolean {
  return (
    /^--(?:enable|disable|no|use|skip|allow|return|log)-/.test(name) ||
    ["--trust-remote-code", "--enforce-eager", "--async-scheduling", "-O3"].includes(name)
  );
}
