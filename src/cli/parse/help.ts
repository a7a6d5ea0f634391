/** The help pages, made from the command table. */

import { type CommandSpec, GLOBAL_OPTIONS, globalOptionsOf } from "../base/spec.ts";
import type { OptionSpec } from "../base/options.ts";

const WIDTH = 96;

/** The page of `llmnode help`: every command in one line. */
export function overview(commands: readonly CommandSpec[], version: string): string {
  const rows = commands
    .filter(({ isHidden }) => isHidden !== true)
    .map(({ name, summary }): [string, string] => [name, summary]);
  return [
    `llmnode ${version}: one OpenAI-compatible address for any set of GPU machines`,
    "",
    "Usage: llmnode <command> [options]",
    "",
    "Commands:",
    ...columns(rows),
    "",
    "Options of every command:",
    ...columns(GLOBAL_OPTIONS.map(optionRow)),
    "",
    "First steps:",
    "  llmnode head",
    "  llmnode join 127.0.0.1 -- vllm serve Qwen/Qwen3-8B --port 8080",
    "  llmnode status",
    "",
    "More about a command: llmnode help <command>",
    "",
  ].join("\n");
}

/** The page of one command. */
export function commandHelp(command: CommandSpec): string {
  const options = command.options.map(optionRow);
  return [
    `llmnode ${command.name}: ${command.summary}`,
    "",
    `Usage: llmnode ${command.usage}`,
    ...(command.aliases === undefined ? [] : [`Also: ${command.aliases.join(", ")}`]),
    ...(command.details === undefined ? [] : ["", ...command.details]),
    ...(options.length === 0 ? [] : ["", "Options:", ...columns(options)]),
    "",
    "Options of every command:",
    ...columns(globalOptionsOf(command).map(optionRow)),
    "",
    "Examples:",
    ...command.examples.map((example) => `  ${example}`),
    "",
  ].join("\n");
}

function optionRow(spec: OptionSpec): [string, string] {
  const short = spec.short === undefined ? "" : `-${spec.short}, `;
  const placeholder = spec.bare === undefined ? spec.value : `[${spec.value}]`;
  const value = placeholder === undefined ? "" : ` ${placeholder}`;
  const fallback = spec.defaultNote ?? spec.default;
  const notes = [
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
    ...(spec.env === undefined ? [] : [`env: ${spec.env}`]),
  ];
  const repeat = spec.repeat === true ? ", repeatable" : "";
  const note = notes.length === 0 ? "" : ` [${notes.join(", ")}]`;
  return [`${short}--${spec.flag}${value}`, `${spec.summary}${repeat}${note}`];
}

/** Two columns, the second wrapped under itself. */
function columns(rows: ReadonlyArray<[string, string]>): string[] {
  const left = Math.max(...rows.map(([name]) => name.length)) + 4;
  return rows.flatMap(([name, text]) => {
    return wrap(text, WIDTH - left).map((line, i) => {
      return `${(i === 0 ? `  ${name}` : "").padEnd(left)}${line}`;
    });
  });
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line];
}
