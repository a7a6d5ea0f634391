/** `llmnode cancel`: ends a request that runs. */

import { usage } from "../base/messages.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { type HeadClient, headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import type { CommandSpec } from "../base/spec.ts";
import { runningRequests } from "./requests.ts";

export const cancelCommand: CommandSpec = {
  name: "cancel",
  usage: "cancel <request>",
  summary: "end a request that runs",
  details: [
    "<request> is a whole id of `llmnode requests`. The client is told, and the engine stops.",
  ],
  argument: { name: "request", required: true },
  options: [{ flag: "json", summary: "print the head's JSON as it is" }],
  examples: ["llmnode cancel 0199c3a2-5be4-7cc1-9c44-1f0f3d5cf1aa"],
  async run(invocation, terminal) {
    const id = invocation.words[0] ?? "";
    if (id === "") throw usage("cancel needs an id of: llmnode requests");
    const client = headClient(invocation);
    const answer = await postJson(client, "/api/v1/requests/cancel", { id }).catch(
      (error: unknown) => nameWhole(error, client, id),
    );
    if (invocation.options.isOn("json")) terminal.out.write(`${answer.trimEnd()}\n`);
    else terminal.err.write(`${cleanLine(id, 80)}: cancelled\n`);
    return EXIT.ok;
  },
};

/** Throws the error; where it is about a part of an id, with the whole one. */
async function nameWhole(error: unknown, client: HeadClient, id: string): Promise<never> {
  if (!(error instanceof LlmnodeError) || error.code !== "not_found") throw error;
  const running = await runningRequests(client, { filter: "", sort: "-age_ms" }).then(
    ({ rows }) => rows.map((row) => row.id),
    () => [],
  );
  const meant = running.filter((one) => one.startsWith(id)).slice(0, 2);
  throw new LlmnodeError(
    "not_found",
    `there is no request ${cleanLine(id, 80)}: it may have ended`,
    {
      hints: [
        ...meant.map((one) => `did you mean   llmnode cancel ${one}`),
        "those that run:   llmnode requests",
      ],
    },
  );
}
