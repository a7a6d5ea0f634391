/** Writes the compatibility table of docs/api.md (routes by engine kind) from the proxy's own list. */

import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { ROUTES, type Route } from "../src/proxy/request/routes.ts";

const PAGE = resolve(import.meta.dir, "../docs/api.md");
const BEGIN = "<!-- compatibility: written by scripts/compat-table.ts -->";
const END = "<!-- compatibility: end -->";

const KINDS = "vllm sglang tgi tei ollama llama-server trtllm lmdeploy dynamo".split(" ");

/** A Markdown table in the form that the formatter leaves alone; routes of the same kinds share a row. */
export function compatTable(routes: Iterable<Route> = ROUTES.values()): string {
  const groups = new Map<string, { kinds: readonly string[] | null; paths: string[] }>();
  for (const { kinds, path, method } of routes) {
    const key = kinds === null ? "any" : [...kinds].sort().join(" ");
    const group = groups.get(key) ?? { kinds, paths: [] };
    group.paths.push(`\`${method === "GET" ? "GET " : ""}${path}\``);
    groups.set(key, group);
  }
  const rows = [...groups.values()].map(({ kinds, paths }) => [
    paths.join(", "),
    ...KINDS.map((kind) => (kinds === null ? "asked" : kinds.includes(kind) ? "yes" : "")),
  ]);
  const all = [["route", ...KINDS], ...rows];
  const widths = all[0]?.map((_, i) => Math.max(...all.map((row) => row[i]?.length ?? 0))) ?? [];
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  return [line(all[0] ?? []), rule, ...rows.map(line)].join("\n");
}

/** The text with the table between its marks. Throws when they are not there. */
export function withTable(text: string): string {
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin === -1 || end < begin) throw new Error(`no lines "${BEGIN}" and "${END}"`);
  return `${text.slice(0, begin + BEGIN.length)}\n\n${compatTable()}\n\n${text.slice(end)}`;
}

if (import.meta.main) writeFileSync(PAGE, withTable(readFileSync(PAGE, "utf8")));
