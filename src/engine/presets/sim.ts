/** The simulated engine of this program: `llmnode sim`. */

import { flagValues, lastFlag, portNumber } from "../flags.ts";
import { llamaServer } from "./llama-server.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";
import { sglang } from "./sglang.ts";
import { tgi } from "./tgi.ts";
import { vllm } from "./vllm.ts";

export const sim: EnginePreset = {
  ...COMMON,
  kind: "sim",
  defaultPort: 8000,
  defaultHost: "127.0.0.1",
  image: { name: /(?:^|\/)llmnode$/, entrypoint: ["llmnode"] },
  // It tells its load as the engine does that it speaks like.
  load: [...vllm.load, ...sglang.load, ...tgi.load, ...llamaServer.load],
  match({ program, args }) {
    return program === "llmnode" && args[0] === "sim" ? args.slice(1) : null;
  },
  hints: (args) => ({
    port: portNumber(lastFlag(args, ["--port"])),
    host: lastFlag(args, ["--host"]),
    models: flagValues(args, ["--model"]),
  }),
  models: openAiModels,
};
