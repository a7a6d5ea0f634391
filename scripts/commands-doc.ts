/**
 * Writes `docs/commands.md` from the command table.
 *
 *   scripts/run.sh commands-doc
 */

import { writeFileSync } from "node:fs";
import path from "node:path";
import type { CommandSpec } from "../src/cli/base/spec.ts";
import { commandTable } from "../src/cli/commands.ts";
import { GLOBAL_TITLE, globalOptionsPage, helpPage } from "../src/cli/parse/help.ts";
import { faultLines } from "../src/cli/sim/faults.ts";

export const COMMANDS_DOC = path.resolve(import.meta.dir, "../docs/commands.md");

export function commandsDoc(): string {
  const commands = commandTable().filter(({ isHidden }) => isHidden !== true);
  const index = commands.map(({ name, summary }) => `- [${name}](#llmnode-${name}): ${summary}`);
  return [
    "# Commands",
    "Written by `scripts/run.sh commands-doc` from the command table; `llmnode help <command>` shows the same. How values are taken from variables and files: [configuration](configuration.md).",
    index.join("\n"),
    "## Options of every command",
    block("text", globalOptionsPage().split("\n").slice(1).join("\n")),
    ...commands.flatMap((command) => sectionOf(command, commands)),
    "",
  ]
    .join("\n\n")
    .replace(/\n+$/, "\n");
}

function sectionOf(command: CommandSpec, commands: readonly CommandSpec[]): string[] {
  const [page = ""] = helpPage(commands, command, "").split(`\n\n${GLOBAL_TITLE}`);
  const summary = `${command.summary.charAt(0).toUpperCase()}${command.summary.slice(1)}.`;
  return [
    `## llmnode ${command.name}`,
    summary,
    block("text", page.slice(page.indexOf("Usage: "))),
    ...(command.name === "sim" ? ["Faults:", block("text", faultLines().join("\n"))] : []),
    ...(command.examples.length === 0 ? [] : [block("sh", command.examples.join("\n"))]),
  ];
}

function block(language: string, text: string): string {
  return `\`\`\`${language}\n${text.trimEnd()}\n\`\`\``;
}

if (import.meta.main) writeFileSync(COMMANDS_DOC, commandsDoc());
