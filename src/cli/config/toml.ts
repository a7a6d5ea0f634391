/** Reads a TOML file, with the place of each key and of whatever is wrong in it. */

import type { AST } from "toml-eslint-parser";
import { cleanLine } from "../../util/text.ts";
import { usage } from "../base/messages.ts";
import { readTextFile } from "../base/text-file.ts";

/** The parser takes some 300 ms for the worst text of this size. */
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
  const { content, places } = parse(text, shown);
  // What has no place of its own is where the table around it is.
  const find = (keys: readonly string[]): AST.Position => {
    for (let length = keys.length; length > 0; length -= 1) {
      const place = places.get(idOf(keys.slice(0, length)));
      if (place !== undefined) return place;
    }
    return { line: 1, column: 0 };
  };
  return {
    path,
    shown,
    content,
    line: (keys) => `${shown}:${find(keys).line}`,
    at: (keys) => `${shown}:${shownPlace(find(keys))}`,
  };
}

type Places = Map<string, AST.Position>;

function parse(text: string, shown: string): { content: Record<string, unknown>; places: Places } {
  // Loaded here: most commands have no file to read, and all should start quickly.
  const toml = require("toml-eslint-parser") as typeof import("toml-eslint-parser");
  const parsedOf = (part: string) => {
    try {
      return toml.parseTOML(part, { tomlVersion: "1.0" });
    } catch (error) {
      if (error instanceof toml.ParseError) return error;
      if (error instanceof RangeError) throw usage(`${shown} is nested too deeply`);
      throw error;
    }
  };
  const parsed = parsedOf(text);
  if (parsed instanceof toml.ParseError) {
    // What is missing at the end of a line is missed in the next one: the line itself says where.
    const before = text.slice(0, parsed.index - parsed.column).trimEnd();
    const own = parsed.column === 0 ? parsedOf(before) : parsed;
    const isSame = own instanceof toml.ParseError && own.message === parsed.message;
    const { lineNumber: line, column, message } = isSame ? own : parsed;
    throw usage(
      `${shown}:${shownPlace({ line, column })}: ${cleanLine(message, 300)}`,
      hintFor(text),
    );
  }
  const places: Places = new Map();
  notePlaces(parsed.body[0].body, [], places);
  // The library would leave it out without a word.
  for (const [id, place] of places) {
    if (!id.includes('"__proto__"')) continue;
    throw usage(`${shown}:${shownPlace(place)}: unknown key "__proto__"`);
  }
  return { content: { ...toml.getStaticTOMLValue(parsed) }, places };
}

/** A table that comes again adds to the first one's place. */
function notePlaces(
  nodes: readonly (AST.TOMLKeyValue | AST.TOMLTable)[],
  base: readonly string[],
  places: Places,
): void {
  for (const node of nodes) {
    const names = node.key.keys.map((key) => (key.type === "TOMLBare" ? key.name : key.value));
    const path = [...base, ...names].slice(0, MAX_DEPTH);
    for (let length = 1; length <= path.length; length += 1) {
      const id = idOf(path.slice(0, length));
      if (!places.has(id)) places.set(id, node.loc.start);
    }
    if (node.type === "TOMLTable") notePlaces(node.body, path, places);
    else noteValue(node.value, path, places);
  }
}

function noteValue(value: AST.TOMLContentNode, path: readonly string[], places: Places): void {
  if (value.type === "TOMLArray") {
    for (const element of value.elements) noteValue(element, path, places);
  } else if (value.type === "TOMLInlineTable") {
    notePlaces(value.body, path, places);
  } else if (value.value instanceof Date && "datetime" in value) {
    // A date or time is taken as it was written.
    const { datetime } = value;
    value.value.toString = () => datetime;
  }
}

/** Nothing that means anything lies deeper. */
const MAX_DEPTH = 8;

function idOf(keys: readonly string[]): string {
  return JSON.stringify(keys);
}

/** Both numbers from 1 on. */
function shownPlace({ line, column }: AST.Position): string {
  return `${line}:${column + 1}`;
}

function hintFor(text: string): string | undefined {
  const isTwice = /^\s*\[head\]/m.test(text) && /^\s*head\s*=/m.test(text);
  return isTwice
    ? "[head] and head = ... are one name in TOML: put one of them into another file"
    : undefined;
}
