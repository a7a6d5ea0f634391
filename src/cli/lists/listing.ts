/** Lists of things of one kind: as a table, as names alone, or as JSON, from one description. */

import type { Options, OptionSpec } from "../base/options.ts";
import type { Invocation } from "../base/spec.ts";
import { asciiText, table, type TableStyle } from "../base/table.ts";
import type { Terminal } from "../base/terminal.ts";
import { noField } from "../client/watch-frame.ts";

export interface Column<R> {
  head: string;
  /** The row's field that it shows. */
  field: string;
  wide?: boolean;
  /** Empty where there is nothing to say; a column without any text is not shown. Absent: the field. */
  text?(row: R): string;
}

/** What tables and JSON of one kind of things are made from. */
export interface Listing<R> {
  schema: `llmnode.${string}/1`;
  member: string;
  fields: readonly string[];
  columns: readonly Column<R>[];
  /** What names a row, for `--quiet`. */
  nameOf(row: R): string;
}

export const LIST_OPTIONS: readonly OptionSpec[] = [
  { flag: "json", summary: "as JSON" },
  {
    flag: "fields",
    value: "<a,b>",
    summary: "only these fields of each row, in this order; their names are those of the JSON",
  },
  { flag: "quiet", short: "q", summary: "only the names, one a line" },
  { flag: "wide", summary: "with more columns" },
  { flag: "no-headers", summary: "without the line of column names" },
  { flag: "no-trunc", summary: "as wide as it is, also on a terminal" },
  { flag: "ascii", env: "LLMNODE_ASCII", summary: "no other characters than ASCII" },
];

/** Rows that choose and order what a list shows. */
export function choiceOptions(example: string, sort: string): readonly OptionSpec[] {
  return [
    { flag: "filter", value: "<words>", summary: `only rows with these words, such as ${example}` },
    {
      flag: "sort",
      value: "<field>",
      default: sort,
      summary: "the order of the rows; --sort=-<field> turns it round",
    },
  ];
}

export interface ListedRows<R> {
  rows: readonly R[];
  head: { id: string; time: string };
  /** How old it is by now. */
  ageMs: number;
  /** How many there are, shown or not. */
  total: number;
  /** Whether the head has more of them than it gives at once. */
  isPart: boolean;
  /** What is printed where there is none. */
  none: string;
}

/** Older than this it says little of what is. */
const STALE_MS = 15_000;

/** Throws `usage` for fields that there are not. */
export function showList<R extends object>(
  listing: Listing<R>,
  listed: ListedRows<R>,
  { invocation, terminal }: { invocation: Invocation; terminal: Terminal },
): void {
  const { options } = invocation;
  const chosen = readFields(listing, options.text("fields"));
  const { rows } = listed;
  if (listed.isPart) terminal.err.write(`these are the first ${rows.length} only: use --filter\n`);
  if (options.isOn("json")) {
    showJson(documentOf(listing, listed, chosen), terminal);
    return;
  }
  if (rows.length === 0) {
    terminal.err.write(`${listed.none}\n`);
    return;
  }
  if (options.isOn("quiet")) {
    terminal.out.write(
      table(
        [""],
        rows.map((row) => [listing.nameOf(row)]),
        { columns: null, whole: true, noHeader: true },
      )
        .map((line) => `${line}\n`)
        .join(""),
    );
    return;
  }
  const columns = chosen === null ? usual(listing, options) : wanted(listing, chosen);
  write(terminal, table(...cellsOf(columns, rows), tableStyle(invocation, terminal)));
}

/** Header and cells for `table`. */
export function cellsOf<R extends object>(
  columns: readonly Column<R>[],
  rows: readonly R[],
): [header: string[], cells: string[][]] {
  const cells = rows.map((row) => columns.map((column) => cellText(column, row)));
  return [columns.map(({ head }) => head), cells];
}

function cellText<R extends object>({ field, text }: Column<R>, row: R): string {
  return text?.(row) ?? plainText(pick(row, [field])[field]);
}

function usual<R>({ columns }: Listing<R>, options: Options): Column<R>[] {
  const isWide = options.isOn("wide");
  return columns.filter(({ wide }) => wide !== true || isWide);
}

/** Each of them is there, whatever it says: scripts count columns. */
function wanted<R extends object>(listing: Listing<R>, chosen: readonly string[]): Column<R>[] {
  return chosen.map((field) => {
    const known = listing.columns.find((column) => column.field === field);
    const column = known ?? { head: field.toUpperCase(), field };
    return { ...column, text: (row) => cellText(column, row) || "-" };
  });
}

/** Whether rows are wanted as a list, also where some were named. */
export function isPlainList({ options }: Invocation): boolean {
  return options.isOn("json") || options.isOn("quiet") || options.isGiven("fields");
}

export function showDetails<R>(
  rows: readonly R[],
  linesOf: (row: R, style: TableStyle) => string[],
  { invocation, terminal }: { invocation: Invocation; terminal: Terminal },
): void {
  const style = tableStyle(invocation, terminal);
  const lines = rows.flatMap((row, i) => [...(i === 0 ? [] : [""]), ...linesOf(row, style)]);
  write(terminal, style.ascii === true ? lines.map(asciiText) : lines);
}

function tableStyle({ options }: Invocation, { columns }: Terminal): TableStyle {
  const whole = options.isOn("no-trunc");
  return {
    columns: whole ? null : columns,
    whole,
    noHeader: options.isOn("no-headers"),
    ascii: options.isOn("ascii"),
  };
}

/** Null: all of them. Throws `usage`. */
function readFields<R>(listing: Listing<R>, text: string | null): string[] | null {
  if (text === null) return null;
  const names = text.split(",").map((name) => name.trim());
  const wrong = names.find((name) => !listing.fields.includes(name));
  if (wrong !== undefined) throw noField("--fields", wrong, listing.fields);
  return names;
}

/** What `--json` prints: every row with every field, unknown is null. */
function documentOf<R extends object>(
  { schema, member, fields }: Listing<R>,
  { rows, head, ageMs, total }: ListedRows<R>,
  chosen: readonly string[] | null,
): object {
  return {
    schema,
    head: { id: head.id, time: head.time },
    age_ms: ageMs,
    stale: ageMs > STALE_MS,
    total,
    [member]: rows.map((row) => pick(row, chosen ?? fields)),
  };
}

/** On a terminal for a person's eyes. */
function showJson(document: object, terminal: Terminal): void {
  terminal.out.write(`${jsonText(document, terminal.outIsTty ? 2 : 0)}\n`);
}

// What JSON lets stand and a terminal obeys: C1 controls, and what changes the direction of text.
const ACTED_ON = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The same JSON, and no more than text to a terminal. */
export function jsonText(value: object, indent = 0): string {
  return JSON.stringify(value, null, indent).replace(
    ACTED_ON,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

export function write(terminal: Terminal, lines: readonly string[]): void {
  terminal.out.write(`${lines.join("\n")}\n`);
}

function pick(row: object, names: readonly string[]): Record<string, unknown> {
  const all = new Map(Object.entries(row));
  return Object.fromEntries(names.map((name) => [name, all.get(name) ?? null]));
}

/** `-` where it is not known. */
function plainText(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (typeof value === "string") return value;
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.join(",");
  return JSON.stringify(value);
}
