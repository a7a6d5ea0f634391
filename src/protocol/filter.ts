/** The words by which rows are chosen: one grammar for the head, `llmnode top` and the commands. */

// filter := group*            all groups must hold
// group  := term ("|" term)*  one of them must hold; spaces around "|" do not matter
// term   := "!"? (field op)? value
// op     := ":" | "=" | "!=" | "<" | "<=" | ">" | ">="
// value  := word | "quoted"   "a|b" after a field means either value
//
// `text` looks into every column, `field:text` into one; both look for a part, in any case.
// `=` wants the whole value; `<` and its like want numbers, with k, M and G as in tables.

/** What is wrong, and at which character, from 0. */
export class FilterError extends Error {
  readonly at: number;

  constructor(message: string, at: number) {
    super(message);
    this.name = "FilterError";
    this.at = at;
  }
}

/** A value of a row; lists hold when one of their values does. */
export type FieldValue = string | number | boolean | null | readonly (string | number)[];

export interface FilterFields {
  /** The value of a field by the name that a person typed, in lower case; undefined: no such field. */
  get(field: string): FieldValue | undefined;
  /** What every column shows, for words without a field. */
  text(): string;
}

export type Filter = (row: FilterFields) => boolean;

const OPS = [":", "=", "!=", "<", "<=", ">", ">="] as const;
type Op = (typeof OPS)[number];

interface Term {
  negated: boolean;
  field: string | null;
  op: Op;
  values: string[];
  at: number;
}

const MAX_CHARS = 512;
const FIELD = /^([A-Za-z_][\w.]*)(<=|>=|!=|[:=<>])/;

/** Reads a filter; `isField` says which fields there are. Throws FilterError. */
export function parseFilter(text: string, isField: (field: string) => boolean): Filter {
  if (text.length > MAX_CHARS) {
    throw new FilterError(`longer than ${MAX_CHARS} characters`, MAX_CHARS);
  }
  const groups = readGroups(text);
  for (const term of groups.flat()) check(term, isField);
  const holds = groups.map((terms) => terms.map(matcher));
  return (row) => holds.every((group) => group.some((match) => match(row)));
}

function readGroups(text: string): Term[][] {
  const groups: Term[][] = [];
  let joined = false;
  for (let at = 0; at < text.length;) {
    const char = text[at];
    if (char === " " || char === "\t") at += 1;
    else if (char === "|") {
      if (groups.length === 0 || joined) throw new FilterError("nothing before '|'", at);
      joined = true;
      at += 1;
    } else {
      const { term, end } = readTerm(text, at);
      const group = joined ? groups.at(-1) : undefined;
      if (group) group.push(term);
      else groups.push([term]);
      joined = false;
      at = end;
    }
  }
  if (joined) throw new FilterError("nothing after '|'", text.length);
  return groups;
}

function readTerm(text: string, start: number): { term: Term; end: number } {
  let at = start;
  const negated = text[at] === "!";
  if (negated) at += 1;
  const named = FIELD.exec(text.slice(at));
  const field = named?.[1]?.toLowerCase() ?? null;
  const op = OPS.find((one) => one === named?.[2]) ?? ":";
  if (named) at += named[0].length;
  const values: string[] = [];
  for (;;) {
    const { value, end } = readValue(text, at);
    if (value === "") throw new FilterError(field ? `no value for ${field}` : "no word", at);
    values.push(value);
    at = end;
    // `model:qwen|deepseek`: another value of the same field, unless a field follows.
    if (field === null || text[at] !== "|" || FIELD.test(text.slice(at + 1))) break;
    if (text[at + 1] === undefined || text[at + 1] === " " || text[at + 1] === "!") break;
    at += 1;
  }
  return { term: { negated, field, op, values, at: start }, end: at };
}

function readValue(text: string, start: number): { value: string; end: number } {
  if (text[start] === '"') {
    const close = text.indexOf('"', start + 1);
    if (close < 0) throw new FilterError('a quote that is not closed: "', start);
    return { value: text.slice(start + 1, close), end: close + 1 };
  }
  let end = start;
  while (end < text.length && !/[\s|]/.test(text[end] ?? " ")) end += 1;
  return { value: text.slice(start, end), end };
}

function check(term: Term, isField: (field: string) => boolean): void {
  const { field, op, values, at } = term;
  if (field === null) return;
  if (!isField(field)) throw new FilterError(`no field ${field}`, at);
  if (op === ":" || op === "=" || op === "!=") return;
  const wrong = values.find((value) => numberOf(value) === null);
  if (wrong !== undefined) throw new FilterError(`${field}${op} wants a number, not ${wrong}`, at);
}

function matcher({ negated, field, op, values }: Term): Filter {
  if (field === null) {
    const [word = ""] = values;
    const needle = word.toLowerCase();
    return (row) => row.text().toLowerCase().includes(needle) !== negated;
  }
  const wanted = values.map((value) => ({ text: value.toLowerCase(), number: numberOf(value) }));
  return (row) => {
    const value = row.get(field);
    const held = wanted.some((one) => listOf(value).some((item) => compare(item, op, one)));
    // `state!=ready` is for rows none of whose values is that.
    return (op === "!=" ? !held : held) !== negated;
  };
}

function listOf(value: FieldValue | undefined): readonly (string | number | boolean)[] {
  if (value === null || value === undefined) return [];
  return typeof value === "object" ? value : [value];
}

function compare(
  item: string | number | boolean,
  op: Op,
  wanted: { text: string; number: number | null },
): boolean {
  if (op === ":") return String(item).toLowerCase().includes(wanted.text);
  const number = typeof item === "number" ? item : null;
  if (op === "=" || op === "!=") {
    return number !== null && wanted.number !== null
      ? number === wanted.number
      : String(item).toLowerCase() === wanted.text;
  }
  if (number === null || wanted.number === null) return false;
  if (op === "<") return number < wanted.number;
  if (op === "<=") return number <= wanted.number;
  return op === ">" ? number > wanted.number : number >= wanted.number;
}

const FACTORS: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, g: 1e9 };

/** `17`, `0.5`, `2k`, `80%`; null for what is no number. */
function numberOf(text: string): number | null {
  const found = /^(-?\d+(?:\.\d+)?)([kmg]?)%?$/i.exec(text);
  if (!found) return null;
  return Number(found[1]) * (FACTORS[found[2]?.toLowerCase() ?? ""] ?? 1);
}
