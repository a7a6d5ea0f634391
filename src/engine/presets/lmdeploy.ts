/** LMDeploy: `lmdeploy serve api_server`. */

import {
  firstPositional,
  hasFlag,
  lastFlag,
  listFlag,
  portNumber,
  productOf,
  wholeNumber,
} from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

const PREFIXES = { prefixes: true };

export const lmdeploy: EnginePreset = {
  ...COMMON,
  kind: "lmdeploy",
  defaultPort: 23_333,
  image: { name: /(?:^|\/)lmdeploy$/, entrypoint: [] },
  // Names: lmdeploy/metrics/loggers.py.
  load: [
    prometheus("/metrics", {
      running: ["lmdeploy:num_requests_running"],
      waiting: ["lmdeploy:num_requests_waiting"],
      kvUsage: ["lmdeploy:gpu_cache_usage_perc"],
      progress: ["lmdeploy:generation_tokens_total", "lmdeploy:prompt_tokens_total"],
    }),
  ],
  loadHint: "start it without --disable-metrics",
  match({ program, args }) {
    if (program !== "lmdeploy" && program !== "lmdeploy.cli") return null;
    return args[0] === "serve" && args[1] === "api_server" ? args.slice(2) : null;
  },
  argvFacts(args) {
    const flag = (name: string) => lastFlag(args, [name], PREFIXES);
    const name = flag("--model-name") ?? firstPositional(args, ["--api-keys"]);
    return {
      port: portNumber(flag("--server-port")),
      host: flag("--server-name"),
      https: hasFlag(args, ["--ssl"]),
      models: name === null ? [] : [name],
      apiKey: listFlag(args, ["--api-keys"], PREFIXES)[0] ?? null,
      gpusWanted: productOf(lastFlag(args, ["--tp"]), lastFlag(args, ["--dp"])),
      maxInFlight: wholeNumber(flag("--max-concurrent-requests")),
      maxModelLen: wholeNumber(flag("--session-len")),
    };
  },
  models: openAiModels,
};
