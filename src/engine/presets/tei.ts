/** Text Embeddings Inference: `text-embeddings-router`; it has no `/v1/models`. */

import { lastFlag, portNumber } from "../flags.ts";
import { fieldOf, textOf, tidyModels, tokensOf } from "./model-list.ts";
import { COMMON, type Ask, type EnginePreset } from "./preset.ts";
import { listenAddress } from "./tgi.ts";

export const tei: EnginePreset = {
  ...COMMON,
  kind: "tei",
  defaultPort: 3000,
  match: ({ program, args }) => (program === "text-embeddings-router" ? args : null),
  hints(args, env) {
    const model = lastFlag(args, ["--model-id"]) ?? env["MODEL_ID"];
    const served = lastFlag(args, ["--served-model-name"]) ?? env["SERVED_MODEL_NAME"];
    const name = served || model;
    return {
      port: portNumber(lastFlag(args, ["-p", "--port"]) ?? env["PORT"]),
      host: listenAddress(lastFlag(args, ["--hostname"]) ?? env["HOSTNAME"]),
      https: false,
      models: name ? [name] : [],
      apiKey: lastFlag(args, ["--api-key"]) ?? (env["API_KEY"] || null),
    };
  },
  models: teiModels,
};

export async function teiModels(ask: Ask) {
  const info = await ask("/info");
  const id = textOf(fieldOf(info, "served_model_name")) || textOf(fieldOf(info, "model_id"));
  const maxModelLen = tokensOf(fieldOf(info, "max_input_length"));
  return tidyModels([{ id, parent: null, maxModelLen, loaded: null }]);
}
