/** Text Embeddings Inference: `text-embeddings-router`; it has no `/v1/models`. */

import { lastFlag, portNumber, wholeNumber } from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { fieldOf, textOf, tidyModels, tokensOf } from "./model-list.ts";
import { COMMON, type Ask, type EnginePreset } from "./preset.ts";
import { listenAddress } from "./tgi.ts";

export const tei: EnginePreset = {
  ...COMMON,
  kind: "tei",
  defaultPort: 3000,
  // Above its --max-concurrent-requests it answers 429.
  maxInFlight: 512,
  image: {
    name: /(?:^|\/)text-embeddings-inference$/,
    entrypoint: ["text-embeddings-router"],
    env: { PORT: "80" },
  },
  load: [prometheus("/metrics", { waiting: ["te_queue_size"], progress: ["te_request_success"] })],
  match: ({ program, args }) => (program === "text-embeddings-router" ? args : null),
  argvFacts(args, env) {
    const flag = (name: string, variable: string) => lastFlag(args, [name]) ?? env[variable];
    const name = flag("--served-model-name", "SERVED_MODEL_NAME") || flag("--model-id", "MODEL_ID");
    return {
      port: portNumber(lastFlag(args, ["-p", "--port"]) ?? env["PORT"]),
      host: listenAddress(flag("--hostname", "HOSTNAME")),
      models: name ? [name] : [],
      apiKey: lastFlag(args, ["--api-key"]) ?? (env["API_KEY"] || null),
      gpusWanted: 1,
      maxInFlight: wholeNumber(flag("--max-concurrent-requests", "MAX_CONCURRENT_REQUESTS")),
    };
  },
  models: teiModels,
  capacity: async (ask) => tokensOf(fieldOf(await ask("/info"), "max_concurrent_requests")),
};

export async function teiModels(ask: Ask) {
  const info = await ask("/info");
  const id = textOf(fieldOf(info, "served_model_name")) || textOf(fieldOf(info, "model_id"));
  const maxModelLen = tokensOf(fieldOf(info, "max_input_length"));
  return tidyModels([{ id, parent: null, maxModelLen, loaded: null }]);
}
