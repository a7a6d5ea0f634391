/** vLLM: `vllm serve` and its OpenAI API server (vllm/entrypoints/openai/cli_args.py). */

import { firstPositional, hasFlag, lastFlag, listFlag, portNumber } from "../flags.ts";
import { fieldOf, openAiModels, textOf } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

// Flags with `nargs="+"`: they take every word up to the next flag.
const LISTS = ["--served-model-name", "--api-key", "--lora-modules", "--middleware"];

export const vllm: EnginePreset = {
  ...COMMON,
  kind: "vllm",
  defaultPort: 8000,
  stopTimeoutMs: 30_000,
  match({ program, args }) {
    if (program === "vllm" || program === "vllm.entrypoints.cli.main") {
      return args[0] === "serve" ? args.slice(1) : null;
    }
    return program === "vllm.entrypoints.openai.api_server" ? args : null;
  },
  hints(args, env) {
    const served = listFlag(args, ["--served-model-name"]);
    const model = lastFlag(args, ["--model"]) ?? firstPositional(args, LISTS);
    const adapters = listFlag(args, ["--lora-modules"]).map(adapterName);
    const names = served.length > 0 ? served : model === null ? [] : [model];
    return {
      port: portNumber(lastFlag(args, ["--port"])),
      host: lastFlag(args, ["--host"]),
      https: hasFlag(args, ["--ssl-keyfile", "--ssl-certfile"]),
      models: [...names, ...adapters.filter((name) => name !== "")],
      apiKey: listFlag(args, ["--api-key"])[0] ?? (env["VLLM_API_KEY"] || null),
    };
  },
  models: openAiModels,
};

/** The name in `name=path` or `{"name": ...}`. */
function adapterName(text: string): string {
  if (!text.startsWith("{")) return text.split("=")[0] ?? "";
  try {
    return textOf(fieldOf(JSON.parse(text), "name"));
  } catch (error) {
    // Not JSON after all: vLLM will say so itself; here it is only a name less.
    if (error instanceof SyntaxError) return "";
    throw error;
  }
}
