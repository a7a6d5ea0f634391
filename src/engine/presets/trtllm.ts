/** TensorRT-LLM: `trtllm-serve`, whose flags are spelled with underscores. */

import { firstPositional, lastFlag, portNumber } from "../flags.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

// Subcommands that start something else than one OpenAI server.
const OTHER = new Set(["grpc", "disaggregated", "disaggregated_mpi_worker", "mm_embedding_serve"]);

export const trtllm: EnginePreset = {
  ...COMMON,
  kind: "trtllm",
  defaultPort: 8000,
  match({ program, args }) {
    if (program !== "trtllm-serve" || OTHER.has(args[0] ?? "")) return null;
    return args[0] === "serve" || args[0] === "embeddings" ? args.slice(1) : args;
  },
  hints(args) {
    const served = lastFlag(args, ["--served-model-name"]);
    const model = firstPositional(args);
    const name = served ?? (model === null ? null : modelName(model));
    return {
      port: portNumber(lastFlag(args, ["--port"])),
      host: lastFlag(args, ["--host"]),
      https: false,
      models: name === null ? [] : [name],
      apiKey: null,
    };
  },
  models: openAiModels,
};

/** A local folder is served under its last part, anything else under the name as given. */
function modelName(model: string): string {
  const isPath = /^[./~]/.test(model);
  return isPath ? (model.split("/").findLast((part) => part !== "") ?? model) : model;
}
