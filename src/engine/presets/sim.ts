/** The simulated engine of this program: `llmnode sim`. */

import { flagValues, lastFlag, portNumber, wholeNumber } from "../flags.ts";
import { llamaServer } from "./llama-server.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset, withQueue } from "./preset.ts";
import { sglang } from "./sglang.ts";
import { tgi } from "./tgi.ts";
import { vllm } from "./vllm.ts";

export const sim: EnginePreset = {
  ...COMMON,
  kind: "sim",
  defaultPort: 8000,
  defaultHost: "127.0.0.1",
  // Without `--max-num-seqs` it runs all that comes.
  maxInFlight: 65_536,
  image: { name: /(?:^|\/)llmnode$/, entrypoint: ["llmnode"] },
  // It tells its load as the engine does that it speaks like.
  load: [...vllm.load, ...sglang.load, ...tgi.load, ...llamaServer.load],
  match({ program, args }) {
    return program === "llmnode" && args[0] === "sim" ? args.slice(1) : null;
  },
  argvFacts: (args) => ({
    port: portNumber(lastFlag(args, ["--port"])),
    host: lastFlag(args, ["--host"]),
    models: flagValues(args, ["--model"]),
    maxInFlight: withQueue(wholeNumber(lastFlag(args, ["--max-num-seqs"]))),
  }),
  models: openAiModels,
};
