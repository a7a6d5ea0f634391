/** Finds where in a TOML text each key stands: the parser does not say. */

export interface Place {
  /** Both from 1 on. */
  line: number;
  column: number;
}

/** Answers for a path of keys; what has no place of its own is where the table around it is. */
export type Places = (keys: readonly string[]) => Place;

/** Nothing that means anything lies deeper. */
const MAX_DEPTH = 8;

/** For a text that the parser has accepted; whatever else it is given, it ends. */
export function findPlaces(text: string): Places {
  const found = new Map<string, number>();
  let table: string[] = [];
  let at = 0;
  while ((at = skipBlank(text, at)) < text.length) {
    const start = at;
    const isTable = text[at] === "[";
    if (isTable) at += text[at + 1] === "[" ? 2 : 1;
    const key = readKey(text, at);
    const path = (isTable ? key.names : [...table, ...key.names]).slice(0, MAX_DEPTH);
    if (isTable) table = path;
    for (let length = 1; length <= path.length; length += 1) {
      const id = idOf(path.slice(0, length));
      if (!found.has(id)) found.set(id, start);
    }
    at = isTable ? lineEnd(text, key.end) : skipValue(text, key.end);
    if (at === start) at += 1;
  }
  const lines = lineStarts(text);
  return (keys) => {
    for (let length = keys.length; length > 0; length -= 1) {
      const offset = found.get(idOf(keys.slice(0, length)));
      if (offset !== undefined) return placeOf(lines, offset);
    }
    return { line: 1, column: 1 };
  };
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function placeOf(lines: readonly number[], offset: number): Place {
  let low = 0;
  let high = lines.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((lines[middle] ?? 0) <= offset) low = middle;
    else high = middle;
  }
  return { line: low + 1, column: offset - (lines[low] ?? 0) + 1 };
}

function idOf(keys: readonly string[]): string {
  return JSON.stringify(keys);
}

function skipBlank(text: string, from: number): number {
  let at = from;
  for (;;) {
    while (/\s/.test(text[at] ?? "")) at += 1;
    if (text[at] !== "#") return at;
    at = lineEnd(text, at);
  }
}

function lineEnd(text: string, from: number): number {
  const end = text.indexOf("\n", from);
  return end === -1 ? text.length : end;
}

/** A key with its dots, such as `heads."my head".url`. */
function readKey(text: string, from: number): { names: string[]; end: number } {
  const names: string[] = [];
  let at = from;
  for (;;) {
    at = skipSpaces(text, at);
    const quote = text[at];
    if (quote === '"' || quote === "'") {
      const end = stringEnd(text, at);
      names.push(unquoted(text.slice(at, end)));
      at = end;
    } else {
      const start = at;
      while (at < text.length && !/[\s.=\]]/.test(text[at] ?? "")) at += 1;
      names.push(text.slice(start, at));
    }
    at = skipSpaces(text, at);
    if (text[at] !== ".") return { names, end: at };
    at += 1;
  }
}

function unquoted(text: string): string {
  const inside = text.slice(1, -1);
  if (text.startsWith("'") || !inside.includes("\\")) return inside;
  try {
    return String(JSON.parse(text));
  } catch {
    return inside; // an escape that JSON does not have: the key is then not found, its table is
  }
}

function skipSpaces(text: string, from: number): number {
  let at = from;
  while (text[at] === " " || text[at] === "\t") at += 1;
  return at;
}

/** Where the line ends on which a value does. */
function skipValue(text: string, from: number): number {
  let depth = 0;
  let at = from;
  while (at < text.length) {
    const char = text[at];
    if (char === '"' || char === "'") at = stringEnd(text, at);
    else if (char === "#") at = lineEnd(text, at);
    else if (char === "\n" && depth <= 0) return at;
    else {
      if (char === "[" || char === "{") depth += 1;
      if (char === "]" || char === "}") depth -= 1;
      at += 1;
    }
  }
  return at;
}

/** Behind the quotes that end a string of any of TOML's four kinds. */
function stringEnd(text: string, from: number): number {
  const quote = text[from] ?? "";
  const isLong = text.startsWith(quote.repeat(3), from);
  const marks = isLong ? quote.repeat(3) : quote;
  let at = from + marks.length;
  while (at < text.length && !text.startsWith(marks, at)) {
    if (!isLong && text[at] === "\n") return at;
    at += quote === '"' && text[at] === "\\" ? 2 : 1;
  }
  at += marks.length;
  // A long string may end in quotes of its own.
  while (isLong && text[at] === quote) at += 1;
  return Math.min(at, text.length);
}
