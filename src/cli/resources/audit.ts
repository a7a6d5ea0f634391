/** `llmnode audit`: who had what done, when and from where. */

import type { AuditEntry } from "../../head/access/audit.ts";
import { cleanLine } from "../../util/text.ts";
import { getJson, headClient } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";
import { textTable } from "../base/table.ts";

const PATH = "/api/v1/audit";

export const auditCommand: CommandSpec = {
  name: "audit",
  usage: "audit [--since <duration>] [-n <count>] [--json]",
  summary: "show who had what changed, when and from where",
  details: [
    "The head writes down all that operators have it do: drains, restarts, join tokens, API keys,",
    "aliases and more, with what came of it. It needs the admin token or an operator's key.",
  ],
  options: [
    { flag: "since", value: "<duration>", summary: "no older than this, such as 24h" },
    {
      flag: "limit",
      short: "n",
      value: "<count>",
      default: "100",
      summary: "at most this many, the latest ones",
    },
    { flag: "json", summary: "print the head's JSON as it is" },
  ],
  examples: ["llmnode audit", "llmnode audit --since 24h -n 20"],
  async run(invocation, terminal) {
    const { options } = invocation;
    const limit = options.integer("limit", { min: 1, max: 10_000 }) ?? 100;
    const since = options.durationMs("since");
    const sinceMs = since === null ? 0 : Math.max(0, Date.now() - since);
    const path = `${PATH}?limit=${limit}&since_ms=${sinceMs}`;
    const answer = await getJson(headClient(invocation), path);
    if (options.isOn("json")) {
      terminal.out.write(`${answer.trimEnd()}\n`);
      return EXIT.ok;
    }
    const { entries } = JSON.parse(answer) as { entries: AuditEntry[] };
    if (entries.length === 0) terminal.err.write("nothing was changed\n");
    else {
      const lines = textTable(HEADER, entries.map(rowOf), terminal.columns);
      terminal.out.write(`${lines.join("\n")}\n`);
    }
    return EXIT.ok;
  },
};

const HEADER = ["TIME", "WHO", "FROM", "ACTION", "RESULT", "ABOUT"];

function rowOf({ at, who, address, action, target, result }: AuditEntry): string[] {
  return [
    at.slice(0, 19).replace("T", " "),
    who,
    address,
    action.replace(/^POST \/api\/v1\//, ""),
    result,
    cleanLine(aboutOf(target), 200),
  ];
}

function aboutOf(target: Record<string, unknown>): string {
  return Object.entries(target)
    .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : String(value)}`)
    .join(" ");
}
