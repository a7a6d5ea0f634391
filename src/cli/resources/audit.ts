/** `llmnode audit`: who had what done, when and from where. */

import { cleanLine } from "../../util/text.ts";
import { fieldsIn, text } from "../../util/json.ts";
import { column, listAction, resourceCommand } from "./resource.ts";

export const auditCommand = resourceCommand({
  name: "audit",
  usage: "audit [--since <duration>] [-n <count>] [--json]",
  summary: "show who had what changed, when and from where",
  details: [
    "The head writes down all that operators have it do: drains, restarts, join tokens, API keys,",
    "aliases and more, with what came of it. It needs the admin token or an operator's key.",
  ],
  path: "/api/v1/audit",
  options: [
    { flag: "since", value: "<duration>", summary: "no older than this, such as 24h" },
    {
      flag: "limit",
      short: "n",
      value: "<count>",
      default: "100",
      summary: "at most this many, the latest ones",
    },
  ],
  examples: ["llmnode audit", "llmnode audit --since 24h -n 20"],
  actions: {
    only: {
      ask({ options }) {
        const limit = options.integer("limit", { min: 1, max: 10_000 }) ?? 100;
        const since = options.durationMs("since");
        const sinceMs = since === null ? 0 : Math.max(0, Date.now() - since);
        return { path: `?limit=${limit}&since_ms=${sinceMs}` };
      },
      ...listAction(
        "entries",
        [
          { head: "TIME", text: ({ at }) => (text(at) ?? "").slice(0, 19).replace("T", " ") },
          column("WHO", "who"),
          column("FROM", "address"),
          {
            head: "ACTION",
            text: ({ action }) => (text(action) ?? "").replace(/^POST \/api\/v1\//, ""),
          },
          column("RESULT", "result"),
          { head: "ABOUT", text: ({ target }) => cleanLine(aboutOf(fieldsIn(target)), 200) },
        ],
        "nothing was changed",
      ),
    },
  },
});

function aboutOf(target: Record<string, unknown>): string {
  return Object.entries(target)
    .map(([name, value]) => `${name}=${Array.isArray(value) ? value.join(",") : String(value)}`)
    .join(" ");
}
