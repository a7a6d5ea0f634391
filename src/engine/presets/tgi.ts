/** Text Generation Inference: `text-generation-launcher` (every flag has an environment variable). */

import { isIP } from "node:net";
import { commaList, lastFlag, portNumber, wholeNumber } from "../flags.ts";
import { prometheus } from "../load-source.ts";
import type { Environment } from "../shell-words.ts";
import { fieldOf, openAiModels, tokensOf } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

export const tgi: EnginePreset = {
  ...COMMON,
  kind: "tgi",
  defaultPort: 3000,
  // Its own grace for running requests is 90 s.
  stopTimeoutMs: 100_000,
  // Above its --max-concurrent-requests it answers 429.
  maxInFlight: 128,
  image: {
    name: /(?:^|\/)text-generation-inference$/,
    entrypoint: ["text-generation-launcher"],
    env: { PORT: "80", HF_HOME: "/data" },
  },
  // It has no figure for the cache: what the batch may grow to of what there is room for.
  load: [
    prometheus("/metrics", {
      running: ["tgi_batch_current_size"],
      waiting: ["tgi_queue_size"],
      kvUsed: ["tgi_batch_current_max_tokens"],
      kvTotal: ["tgi_batch_max_total_tokens"],
      progress: ["tgi_request_generated_tokens_sum"],
    }),
  ],
  match: ({ program, args }) => (program === "text-generation-launcher" ? args : null),
  argvFacts(args, env) {
    const flag = (name: string, variable: string) => lastFlag(args, [name]) ?? env[variable];
    const model = flag("--model-id", "MODEL_ID");
    const graceS = wholeNumber(
      flag("--graceful-termination-timeout", "GRACEFUL_TERMINATION_TIMEOUT"),
    );
    return {
      port: portNumber(lastFlag(args, ["-p", "--port"]) ?? env["PORT"]),
      host: listenAddress(flag("--hostname", "HOSTNAME")),
      models: model ? [model] : [],
      apiKey: lastFlag(args, ["--api-key"]) ?? (env["API_KEY"] || null),
      gpusWanted: wholeNumber(flag("--num-shard", "NUM_SHARD")) ?? visibleGpus(args, env),
      maxInFlight: wholeNumber(flag("--max-concurrent-requests", "MAX_CONCURRENT_REQUESTS")),
      stopTimeoutMs: graceS === null ? null : graceS * 1000 + 10_000,
    };
  },
  async models(ask) {
    const models = await openAiModels(ask);
    const limit = tokensOf(fieldOf(await ask("/info"), "max_total_tokens"));
    return models.map((model) => ({ ...model, maxModelLen: model.maxModelLen ?? limit }));
  },
  capacity: async (ask) => tokensOf(fieldOf(await ask("/info"), "max_concurrent_requests")),
};

/** Left to itself it takes as many GPUs as these variables name; without them it does not tell. */
function visibleGpus(args: readonly string[], env: Environment): number | null {
  if ((lastFlag(args, ["--sharded"]) ?? env["SHARDED"]) === "false") return 1;
  const named = commaList(env["CUDA_VISIBLE_DEVICES"] || env["NVIDIA_VISIBLE_DEVICES"]);
  return named.length > 0 && named[0] !== "all" && named[0] !== "none" ? named.length : null;
}

/** A host name in place of an address (HOSTNAME of a container) makes it listen on all of them. */
export function listenAddress(host: string | undefined): string | null {
  return host !== undefined && isIP(host) !== 0 ? host : null;
}
