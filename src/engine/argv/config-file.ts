/** Reads the files in which an engine's command keeps further flags, or its API key. */

import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { lastFlag } from "../flags.ts";
import { isRecord } from "../../util/json.ts";

/** Larger files are no lists of flags. */
const MAX_BYTES = 1024 * 1024;

export interface ExpandedArgs {
  args: readonly string[];
  /** False when the command names a file that could not be read: it may say anything. */
  isWhole: boolean;
}

/**
 * The arguments with those of the file that `flag` names, as vLLM and SGLang take them: before the
 * others, which therefore win, but behind a first word that is no flag. `cwd` null: the file is
 * out of reach. Never throws.
 */
export function expandConfig(
  args: readonly string[],
  flag: string,
  cwd: string | null,
): ExpandedArgs {
  const path = lastFlag(args, [flag]);
  if (path === null) return { args, isWhole: true };
  const flags = cwd === null ? null : readFlags(resolve(cwd, path));
  if (flags === null) return { args, isWhole: false };
  const start = args[0]?.startsWith("-") === false ? 1 : 0;
  return { args: [...args.slice(0, start), ...flags, ...args.slice(start)], isWhole: true };
}

/** The first line with anything on it, as llama-server reads its keys; null: none. Never throws. */
export function readKeyFile(path: string, cwd: string | null): string | null {
  const text = cwd === null ? null : readText(resolve(cwd, path));
  const lines = (text ?? "").split("\n").map((line) => line.trim());
  return lines.find((line) => line !== "") ?? null;
}

function readText(path: string): string | null {
  try {
    const stat = statSync(path);
    // A pipe (`--config <(...)`) can be read once only, and that is the engine's.
    return stat.isFile() && stat.size <= MAX_BYTES ? readFileSync(path, "utf8") : null;
  } catch {
    // Not there, or not readable: the engine will say so itself.
    return null;
  }
}

function readFlags(path: string): string[] | null {
  const text = readText(path);
  if (text === null) return null;
  try {
    const content: unknown = Bun.YAML.parse(text);
    return isRecord(content)
      ? Object.entries(content).flatMap(([name, value]) => flagWords(name, value))
      : null;
  } catch {
    // No YAML: the engine will say so itself.
    return null;
  }
}

/** A switch that is on stands alone; a list is several words; what has parts is JSON. */
function flagWords(name: string, value: unknown): string[] {
  const flag = `--${name}`;
  if (value === null || value === undefined || value === false) return [];
  if (value === true) return [flag];
  if (Array.isArray(value)) return [flag, ...value.map(wordOf)];
  return [flag, wordOf(value)];
}

function wordOf(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
