/** The help pages: cac's, in a layout of our own. */

import type { Command } from "cac";
import { type CommandSpec, GLOBAL_OPTIONS } from "../base/spec.ts";
import { buildCac } from "./line.ts";
import { columns, HELP_WIDTH, wrap } from "../base/table.ts";

export const GLOBAL_TITLE = "Options of every command (more: llmnode help options)";

/** The page of one command, or of `llmnode help`: every command in one line. */
export function helpPage(
  commands: readonly CommandSpec[],
  command: CommandSpec | null,
  version: string,
): string {
  const cli = buildCac(commands.filter((one) => one.isHidden !== true || one === command));
  const named = command && cli.commands.find(({ name }) => name === command.name);
  // No section of cac's "for more info": it names every command a second time.
  const wanted = ["Usage", ...(named ? ["Options", "Examples"] : ["Commands"])];
  cli.globalCommand.helpCallback = (sections) => {
    const bodies = sections.flatMap(({ title, body }): Section[] => {
      if (title === undefined || !wanted.includes(title)) return [];
      if (title === "Usage") return [{ body: `Usage: ${body.replace(/^ *\$ /, "")}` }];
      if (title === "Commands") {
        const rows = cli.commands.map((one): [string, string] => [one.name, one.description]);
        return [{ title, body: columns(rows).join("\n") }];
      }
      if (title === "Examples") return [{ title, body: body.replace(/^/gm, "  ") }];
      return named === null || named === undefined ? [] : optionSection(named);
    });
    const about = command
      ? `llmnode ${command.name}: ${command.summary}`
      : `llmnode ${version}: one OpenAI-compatible address for any set of GPU machines`;
    const [usage, ...others] = bodies;
    return [
      { body: about },
      ...(usage === undefined ? [] : [usage]),
      ...(command?.aliases ? [{ body: `Also: ${command.aliases.join(", ")}` }] : []),
      ...(command?.details ? [{ body: command.details.join("\n") }] : []),
      ...others.filter(({ title }) => title !== "Examples"),
      { title: GLOBAL_TITLE, body: globalLines() },
      ...others.filter(({ title }) => title === "Examples"),
      ...(command === null ? [{ title: "First steps", body: FIRST_STEPS }] : []),
    ];
  };
  return printed(() => (named ?? cli.globalCommand).outputHelp());
}

/** The page of `llmnode help options`: those that every command has. */
export function globalOptionsPage(): string {
  const rows = buildCac([]).globalCommand.options.map(rowOf);
  return ["Options of every command:", ...columns(rows), ""].join("\n");
}

const FIRST_STEPS = [
  "  llmnode head",
  "  llmnode join 127.0.0.1 -- vllm serve Qwen/Qwen3-8B --port 8080",
  "  llmnode status",
  "",
  "More about a command: llmnode help <command>",
].join("\n");

type Option = Command["options"][number];

interface Section {
  title?: string;
  body: string;
}

function optionSection({ options }: Command): Section[] {
  if (options.length === 0) return [];
  return [{ title: "Options", body: columns(options.map(rowOf)).join("\n") }];
}

function rowOf({ rawName, description }: Option): [string, string] {
  return [rawName, description];
}

function globalLines(): string {
  const names = GLOBAL_OPTIONS.map(({ flag, short, value }) => {
    const letter = short === undefined ? "" : `-${short}, `;
    return `${letter}--${flag}${value === undefined ? "" : ` ${value}`}`.replaceAll(" ", "\u00a0");
  });
  return wrap(names.join("   "), HELP_WIDTH - 2)
    .map((line) => `  ${line.replaceAll("\u00a0", " ").trim()}`)
    .join("\n");
}

/** cac prints its page by itself; here it is text, for any terminal. */
function printed(print: () => void): string {
  const { info } = console;
  let page = "";
  console.info = (text: string) => void (page += `${text}\n`);
  try {
    print();
  } finally {
    console.info = info;
  }
  return page;
}
