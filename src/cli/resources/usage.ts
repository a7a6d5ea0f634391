/** `llmnode usage`: what API keys have used, in requests and tokens. */

import { cleanLine } from "../../util/text.ts";
import { formatDuration } from "../../util/units.ts";
import { fieldsIn, type JsonRecord, number, text } from "../../util/json.ts";
import type { Options } from "../base/options.ts";
import { table } from "../base/table.ts";
import { minuteOf, resourceCommand, rowsOf } from "./resource.ts";

const BY = ["hour", "day", "key", "model"] as const;

export const usageCommand = resourceCommand({
  name: "usage",
  usage: "usage [--key <id>] [--model <name>] [--since <duration>] [--by <what>] [--json]",
  summary: "show what API keys have used, in requests and tokens",
  details: [
    "Whole hours are counted, in UTC, and kept for 90 days. Tokens are the engines' own figures; what",
    "no engine said is estimated, and EST says how much of a line that is. Models that no engine has are",
    "counted as `unresolved`. A user's key shows its own usage.",
  ],
  options: [
    { flag: "key", value: "<id>", summary: "only this key; `none`: requests without a key" },
    { flag: "model", value: "<name>", summary: "only this model, by the name that was asked for" },
    {
      flag: "since",
      value: "<duration>",
      default: "24h",
      summary: "how far back, such as 24h or 30d",
    },
    {
      flag: "by",
      value: "<what>",
      default: "key,model",
      summary: "what lines are kept apart by: hour, day, key, model, or some of them",
    },
  ],
  examples: [
    "llmnode usage",
    "llmnode usage --since 30d --by day",
    "llmnode usage --key k7f3q9ab --by hour,model",
  ],
  path: "/api/v1/usage",
  actions: {
    only: {
      ask: ({ options }) => ({ path: `?${questionOf(options).query}` }),
      lines(answer, { options }, columns) {
        const rows = rowsOf(answer, "rows");
        if (rows.length === 0) return [];
        const { by } = questionOf(options);
        return tableOf(rows, { by, total: fieldsIn(answer["total"]), columns });
      },
      notes(answer, { options }) {
        if (rowsOf(answer, "rows").length > 0) return [];
        return [`no requests in the last ${formatDuration(questionOf(options).sinceMs)}`];
      },
    },
  },
});

type By = (typeof BY)[number];

function questionOf(options: Options): { query: string; by: By[]; sinceMs: number } {
  const sinceMs = options.durationMs("since") ?? 0;
  if (sinceMs === 0) throw options.invalid("since", "more than zero");
  const words = (options.text("by") ?? "").split(",").map((word) => word.trim());
  const by = BY.filter((one) => words.includes(one));
  if (by.length !== new Set(words).size) {
    throw options.invalid("by", `some of ${BY.join(", ")}, with commas between them`);
  }
  const query = new URLSearchParams({ since_ms: String(sinceMs), by: by.join(",") });
  for (const name of ["key", "model"]) {
    const value = options.text(name);
    if (value !== null) query.set(name, value);
  }
  return { query: query.toString(), by, sinceMs };
}

const TITLES: Record<By, string> = {
  hour: "HOUR (UTC)",
  day: "DAY (UTC)",
  key: "KEY",
  model: "MODEL",
};
const SUMS = [
  ["REQUESTS", "requests"],
  ["ERRORS", "errors"],
  ["INPUT", "input_tokens"],
  ["CACHED", "cached_input_tokens"],
  ["OUTPUT", "output_tokens"],
] as const;

/** Figures stand below each other; the sum of all comes last where there is more than one line. */
function tableOf(
  rows: readonly JsonRecord[],
  { by, total, columns }: { by: readonly By[]; total: JsonRecord; columns: number | null },
): string[] {
  const lines = rows.map((row) => [...by.map((one) => placeOf(row, one)), ...figuresOf(row)]);
  if (rows.length > 1) {
    lines.push(["total", ...by.slice(1).map(() => ""), ...figuresOf(total)]);
  }
  const header = [...by.map((one) => TITLES[one]), ...SUMS.map(([title]) => title), "EST"];
  const widths = header.map((title, i) => {
    return Math.max(title.length, ...lines.map((line) => line[i]?.length ?? 0));
  });
  const aligned = (line: readonly string[]) =>
    line.map((cell, i) => (i < by.length || cell === "" ? cell : cell.padStart(widths[i] ?? 0)));
  return table(aligned(header), lines.map(aligned), { columns });
}

function placeOf(row: JsonRecord, by: By): string {
  const value = text(row[by]);
  switch (by) {
    case "hour":
      return minuteOf(value) ?? "";
    case "key": {
      if (value === null) return "(no key)";
      const name = text(row["key_name"]);
      return name === null ? value : `${value} (${cleanLine(name, 60)})`;
    }
    case "day":
    case "model":
      return value ?? "";
  }
}

function figuresOf(row: JsonRecord): string[] {
  const sums = SUMS.map(([, name]) => String(number(row[name]) ?? ""));
  const estimated = number(row["estimated_tokens"]) ?? 0;
  const tokens = (number(row["input_tokens"]) ?? 0) + (number(row["output_tokens"]) ?? 0);
  return [...sums, estimated === 0 ? "" : `${Math.ceil((100 * estimated) / tokens)}%`];
}
