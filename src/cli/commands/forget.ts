/** `llmnode forget`: sends a worker away. */

import { cleanLine } from "../../util/text.ts";
import { headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";

export const forgetCommand: CommandSpec = {
  name: "forget",
  usage: "forget <worker>",
  summary: "send a worker away: its credential no longer lets it in",
  details: [
    "<worker> is a name or an id of `llmnode status`; one that is gone is meant too. Whoever has a",
    "join token can start it again: rotate the join token as well where that must not be.",
  ],
  argument: { name: "worker", required: true },
  options: [],
  examples: ["llmnode forget gpu-03"],
  async run(invocation, terminal) {
    const worker = invocation.words[0] ?? "";
    await postJson(headClient(invocation), "/api/v1/workers/forget", { worker });
    terminal.err.write(
      `${cleanLine(worker, 80)}: sent away (to bring it back: start its join again with a join token)\n`,
    );
    return EXIT.ok;
  },
};
