import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { COMMANDS_DOC, commandsDoc } from "../../scripts/commands-doc.ts";
import { commandTable } from "../../src/cli/commands.ts";

test("docs/commands.md is what the command table says: scripts/run.sh commands-doc", () => {
  expect(readFileSync(COMMANDS_DOC, "utf8")).toBe(commandsDoc());
});

test("every command and every option of it stands there", () => {
  const sections = commandsDoc().split(/^## /m);
  for (const { name, options, isHidden } of commandTable()) {
    const section = sections.find((one) => one.startsWith(`llmnode ${name}\n`)) ?? "";
    expect([name, section !== ""]).toEqual([name, isHidden !== true]);
    if (isHidden === true) continue;
    for (const { flag } of options) expect(section).toContain(`--${flag}`);
  }
});
