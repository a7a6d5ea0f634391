/** `llmnode version`: which build this is. */

import { EXIT } from "../base/exit-codes.ts";
import { versionFacts } from "../daemon/program.ts";
import type { CommandSpec } from "../base/spec.ts";

export const versionCommand: CommandSpec = {
  name: "version",
  usage: "version [--json]",
  summary: "show the version",
  ignoresConfig: true,
  options: [{ flag: "json", summary: "as JSON" }],
  examples: ["llmnode version", "llmnode version --json"],
  async run({ options }, terminal) {
    const { version, bun, platform } = versionFacts();
    terminal.out.write(
      options.isOn("json")
        ? `${JSON.stringify({ schema: "llmnode.version/1", version, bun, platform })}\n`
        : `llmnode ${version} (bun ${bun}, ${platform})\n`,
    );
    return EXIT.ok;
  },
};
