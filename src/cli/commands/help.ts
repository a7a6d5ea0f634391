/** `llmnode help`: the overview, or one command's page. */

import { EXIT } from "../base/exit-codes.ts";
import { globalOptionsPage, helpPage } from "../parse/help.ts";
import { findCommand } from "../parse/line.ts";
import { unknownCommand } from "../parse/parse.ts";
import { versionFacts } from "../daemon/program.ts";
import type { CommandSpec } from "../base/spec.ts";

/** Help knows the whole table, itself included, so it is made from the rest of it. */
export function helpCommand(others: readonly CommandSpec[]): CommandSpec {
  const help: CommandSpec = {
    name: "help",
    usage: "help [command]|options",
    summary: "show this overview, or more about one command or the options that all have",
    argument: { name: "command", required: false },
    ignoresConfig: true,
    options: [],
    examples: ["llmnode help", "llmnode help join", "llmnode help options"],
    async run({ words }, terminal) {
      const all = [...others, help];
      const name = words[0];
      if (name === "options") {
        terminal.out.write(globalOptionsPage());
        return EXIT.ok;
      }
      const found = name === undefined ? null : findCommand(all, name);
      if (name !== undefined && !found) throw unknownCommand(name, all);
      terminal.out.write(helpPage(all, found ?? null, versionFacts().version));
      return EXIT.ok;
    },
  };
  return help;
}
