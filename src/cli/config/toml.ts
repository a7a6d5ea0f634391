/** Reads a TOML file, with the place of whatever is wrong in it. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { findPlaces, type Place } from "./places.ts";
import { readTextFile } from "../base/text-file.ts";

/** The parser's time grows with the square of the number of keys: these are some milliseconds. */
const MAX_BYTES = 64 * 1024;

export interface TomlFile {
  path: string;
  /** Its path as messages show it. */
  shown: string;
  content: Record<string, unknown>;
  /** `worker.toml:3`, where a key stands. */
  line(keys: readonly string[]): string;
  /** `worker.toml:3:1`. */
  at(keys: readonly string[]): string;
}

/** Throws `usage`, in one line with the place, for what is no readable TOML. */
export function readTomlFile(path: string): TomlFile {
  const shown = cleanLine(path, 200);
  const text = readTextFile(path, { named: shown, isReadTwice: true, maxBytes: MAX_BYTES });
  const content = parseToml(text, shown);
  // Most files have nothing to say of their places.
  let places: ReturnType<typeof findPlaces> | null = null;
  const find = (keys: readonly string[]): Place => (places ??= findPlaces(text))(keys);
  return {
    path,
    shown,
    content: Object.fromEntries(Object.entries(content)),
    line: (keys) => `${shown}:${find(keys).line}`,
    at(keys) {
      const { line, column } = find(keys);
      return `${shown}:${line}:${column}`;
    },
  };
}

function parseToml(text: string, shown: string): object {
  const failed = failureOf(text);
  if (failed === null) return Bun.TOML.parse(text);
  const { line, column } = failurePlace(text, failed);
  const hint =
    failed.includes("redefine") && failed.includes("'head'")
      ? { hints: ["[head] and head = ... are one name in TOML: put one of them into another file"] }
      : {};
  throw new LlmnodeError("usage", `${shown}:${line}:${column}: ${failed}`, hint);
}

/**
 * Bun's parser does not say where it stopped, but stops there again when the text ends behind that
 * place: all beginnings that reach so far fail in the same way.
 */
function failurePlace(text: string, failed: string): Place {
  const lines = text.split("\n");
  const line = firstTrue(lines.length, (count) => {
    return failureOf(`${lines.slice(0, count).join("\n")}\n`) === failed;
  });
  const before = lines.slice(0, line - 1).map((one) => `${one}\n`);
  const own = lines[line - 1] ?? "";
  const start = own.length - own.trimStart().length + 1;
  // A name that is there already is best shown at its beginning.
  if (failed.startsWith("Cannot redefine")) return { line, column: start };
  const column = firstTrue(own.length, (count) => {
    return failureOf(before.join("") + own.slice(0, count)) === failed;
  });
  return { line, column: Math.max(column, start) };
}

/** The smallest of 1 to `last` for which it holds, if it holds for all above that one. */
function firstTrue(last: number, holds: (n: number) => boolean): number {
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (holds(middle)) high = middle;
    else low = middle;
  }
  return Math.max(high, 1);
}

function failureOf(text: string): string | null {
  try {
    Bun.TOML.parse(text);
    return null;
  } catch (error) {
    return cleanLine(messageOf(error).replace(/^TOML Parse error: /, ""), 300);
  }
}
