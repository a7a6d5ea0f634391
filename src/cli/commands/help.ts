/** `llmnode help`: the overview, or one command's page. */

import { EXIT } from "../base/exit-codes.ts";
import { commandHelp, overview } from "../parse/help.ts";
import { findCommand, unknownCommand } from "../parse/parse.ts";
import { versionFacts } from "../daemon/program.ts";
import type { CommandSpec } from "../base/spec.ts";

/** Help knows the whole table, itself included, so it is made from the rest of it. */
export function helpCommand(others: readonly CommandSpec[]): CommandSpec {
  const help: CommandSpec = {
    name: "help",
    usage: "help [command]",
    summary: "show this overview, or more about one command",
    argument: { name: "command", required: false },
    ignoresConfig: true,
    options: [],
    examples: ["llmnode help", "llmnode help join"],
    async run({ words }, terminal) {
      const all = [...others, help];
      const name = words[0];
      const found = name === undefined ? undefined : findCommand(all, name);
      if (name !== undefined && found === undefined) throw unknownCommand(name, all);
      terminal.out.write(
        found === undefined ? overview(all, versionFacts().version) : commandHelp(found),
      );
      return EXIT.ok;
    },
  };
  return help;
}
