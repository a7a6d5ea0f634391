/** The simulated engine of this program: `llmnode sim`. */

import { flagValues, lastFlag, portNumber } from "../flags.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

export const sim: EnginePreset = {
  ...COMMON,
  kind: "sim",
  defaultPort: 8000,
  match({ program, args }) {
    return program === "llmnode" && args[0] === "sim" ? args.slice(1) : null;
  },
  hints(args) {
    return {
      port: portNumber(lastFlag(args, ["--port"])),
      host: lastFlag(args, ["--host"]),
      https: false,
      models: flagValues(args, ["--model"]),
      apiKey: null,
    };
  },
  models: openAiModels,
};
