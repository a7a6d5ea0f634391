/** `llmnode undrain`: a worker takes requests again. */

import { cleanLine } from "../../util/text.ts";
import { headClient, postJson } from "../client/api.ts";
import { EXIT } from "../base/exit-codes.ts";
import { fieldsIn, list, text } from "../../util/json.ts";
import type { CommandSpec } from "../base/spec.ts";
import { nameOthers } from "../client/worker-names.ts";

export const undrainCommand: CommandSpec = {
  name: "undrain",
  usage: "undrain <worker>...",
  summary: "take a drain, or a restart that has not ended, back",
  argument: { name: "worker", required: true, repeats: true },
  options: [],
  examples: ["llmnode undrain gpu-03"],
  async run(invocation, terminal) {
    const { words } = invocation;
    const client = headClient(invocation);
    const answer = await postJson(client, "/api/v1/workers/undrain", { workers: words }).catch(
      (error: unknown) => nameOthers(error, { client, command: "undrain", words }),
    );
    for (const entry of list(fieldsIn(JSON.parse(answer))["workers"])) {
      const name = cleanLine(text(entry["name"]) ?? "?", 100);
      const stage = text(fieldsIn(entry["drain"])["stage"]);
      terminal.err.write(`${name}: ${afterwards(stage, text(entry["state"]))}\n`);
    }
    return EXIT.ok;
  },
};

/** `stage`: of the order that is no more; null: there was none. */
function afterwards(stage: string | null, state: string | null): string {
  const isReady = state === "ready";
  if (stage === null) {
    if (isReady) return "was not drained";
    return `was not drained (it is ${state ?? "not here"})`;
  }
  if (stage === "queued") return "will not be restarted";
  const engine = stage === "restarting" ? "its engine is still starting again" : null;
  if (isReady) return `takes requests again${engine === null ? "" : `, ${engine}`}`;
  return `not drained any more (it is ${state ?? "not here"})`;
}
