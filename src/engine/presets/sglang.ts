/** SGLang: `sglang serve` and `python -m sglang.launch_server` (sglang/srt/server_args.py). */

import { firstPositional, hasFlag, lastFlag, portNumber } from "../flags.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

const PREFIXES = { prefixes: true };

export const sglang: EnginePreset = {
  ...COMMON,
  kind: "sglang",
  defaultPort: 30_000,
  // A healthy `/health` generates a token: it takes 1 to 20 s.
  probeTimeoutMs: 25_000,
  stopTimeoutMs: 30_000,
  match({ program, args }) {
    if (program === "sglang") return args[0] === "serve" ? args.slice(1) : null;
    return program === "sglang.launch_server" ? args : null;
  },
  hints(args) {
    const flag = (...names: string[]) => lastFlag(args, names, PREFIXES);
    const model = flag("--served-model-name") ?? flag("--model-path", "--model");
    const named = model ?? firstPositional(args);
    return {
      port: portNumber(flag("--port")),
      host: flag("--host"),
      https: hasFlag(args, ["--ssl-keyfile", "--ssl-certfile"]),
      models: named === null ? [] : [named],
      apiKey: flag("--api-key"),
    };
  },
  models: openAiModels,
};
