/** `llmnode status`: the cluster on one screen. */

import { getJson, headClient } from "../client/api.ts";
import { parseStatus } from "../client/head-json.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";
import { problems, statusLines } from "../status/view.ts";

export const statusCommand: CommandSpec = {
  name: "status",
  usage: "status [--json] [--check] [--verbose]",
  summary: "show the head, its workers, their engines and the models on one screen",
  details: [
    "--check makes the exit code tell: 7 when no model is ready, a model has no ready replica, a",
    "worker is stale or lost, or an engine is in trouble; what is wrong goes to stderr.",
  ],
  options: [
    {
      flag: "verbose",
      summary: "with machines and GPUs, and an engine's log lines that show why it ended",
    },
    { flag: "json", summary: "print the head's JSON as it is" },
    { flag: "check", summary: "exit 7 when the cluster is degraded or no model is ready" },
  ],
  examples: [
    "llmnode status",
    "llmnode status --check && echo fine",
    "llmnode --head 10.0.0.5 status --json",
  ],
  async run(invocation, terminal) {
    const { options } = invocation;
    const client = headClient(invocation);
    const body = await getJson(client, "/api/v1/status");
    const status = parseStatus(body, client);
    if (options.isOn("json")) {
      terminal.out.write(`${body.trimEnd()}\n`);
    } else {
      const { columns } = terminal;
      const verbose = options.isOn("verbose");
      terminal.out.write(
        `${statusLines(status, { url: client.url, columns, verbose }).join("\n")}\n`,
      );
      if (status.workers.length === 0) {
        terminal.err.write(
          `no workers (yet). Add one: ${joinLine(client.url)} -- <engine command>\n`,
        );
      }
    }
    if (!options.isOn("check")) return EXIT.ok;
    const wrong = problems(status);
    for (const line of wrong) terminal.err.write(`degraded: ${line}\n`);
    return wrong.length === 0 ? EXIT.ok : EXIT.degraded;
  },
};

/** How a worker comes to this head, as far as its HTTP address tells. */
function joinLine(url: string): string {
  return `llmnode join ${new URL(url).hostname}`;
}
