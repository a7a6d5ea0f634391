/** Text Generation Inference: `text-generation-launcher` (every flag has an environment variable). */

import { isIP } from "node:net";
import { lastFlag, portNumber } from "../flags.ts";
import { fieldOf, openAiModels, tokensOf } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

export const tgi: EnginePreset = {
  ...COMMON,
  kind: "tgi",
  defaultPort: 3000,
  // Its own grace for running requests is 90 s.
  stopTimeoutMs: 100_000,
  match: ({ program, args }) => (program === "text-generation-launcher" ? args : null),
  hints(args, env) {
    const model = lastFlag(args, ["--model-id"]) ?? env["MODEL_ID"];
    return {
      port: portNumber(lastFlag(args, ["-p", "--port"]) ?? env["PORT"]),
      host: listenAddress(lastFlag(args, ["--hostname"]) ?? env["HOSTNAME"]),
      https: false,
      models: model ? [model] : [],
      apiKey: lastFlag(args, ["--api-key"]) ?? (env["API_KEY"] || null),
    };
  },
  async models(ask) {
    const models = await openAiModels(ask);
    const limit = tokensOf(fieldOf(await ask("/info"), "max_total_tokens"));
    return models.map((model) => ({ ...model, maxModelLen: model.maxModelLen ?? limit }));
  },
};

/** A host name in place of an address (HOSTNAME of a container) makes it listen on all of them. */
export function listenAddress(host: string | undefined): string | null {
  return host !== undefined && isIP(host) !== 0 ? host : null;
}
