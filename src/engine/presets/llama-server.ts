/** llama.cpp's server: `llama-server`, `llama serve`; every flag has a variable LLAMA_ARG_*. */

import { commaList, hasFlag, lastFlag, portNumber } from "../flags.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

const MODEL = ["-m", "--model"];
const REPO = ["-hf", "-hfr", "--hf-repo"];

export const llamaServer: EnginePreset = {
  ...COMMON,
  kind: "llama-server",
  defaultPort: 8080,
  match({ program, args }) {
    if (program === "llama-server") return args;
    if (program === "llama") {
      return args[0] === "serve" || args[0] === "server" ? args.slice(1) : null;
    }
    // The old name says little: it counts only with a model as this server is given one.
    return program === "server" && hasFlag(args, [...MODEL, ...REPO]) ? args : null;
  },
  hints(args, env) {
    const named =
      lastFlag(args, ["-a", "--alias"]) ??
      env["LLAMA_ARG_ALIAS"] ??
      lastFlag(args, REPO) ??
      env["LLAMA_ARG_HF_REPO"] ??
      lastFlag(args, MODEL) ??
      env["LLAMA_ARG_MODEL"];
    const keys = commaList(lastFlag(args, ["--api-key"]) ?? env["LLAMA_API_KEY"]);
    return {
      port: portNumber(lastFlag(args, ["--port"]) ?? env["LLAMA_ARG_PORT"]),
      host: lastFlag(args, ["--host"]) ?? (env["LLAMA_ARG_HOST"] || null),
      https: hasFlag(args, ["--ssl-key-file", "--ssl-cert-file"]),
      models: commaList(named),
      apiKey: keys[0] ?? null,
    };
  },
  models: openAiModels,
};
