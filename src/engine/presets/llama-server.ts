/** llama.cpp's server: `llama-server`, `llama serve`; every flag has a variable LLAMA_ARG_*. */

import { commaList, hasFlag, lastFlag, portNumber, wholeNumber } from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { readLlamaSlots } from "./load-json.ts";
import { fieldOf, openAiModels, tokensOf } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

const MODEL = ["-m", "--model"];
const REPO = ["-hf", "-hfr", "--hf-repo"];
/** Its slots when `--parallel` leaves the choice to it. */
const AUTO_SLOTS = 4;

export const llamaServer: EnginePreset = {
  ...COMMON,
  kind: "llama-server",
  defaultPort: 8080,
  defaultHost: "127.0.0.1",
  maxInFlight: AUTO_SLOTS,
  image: {
    name: /(?:^|\/)llama\.cpp$/,
    tag: /^(?:server|full)/,
    entrypoint: ["llama-server"],
    env: { LLAMA_ARG_HOST: "0.0.0.0" },
  },
  // Slots first: two of its metrics are averages since they were last read, by any reader.
  load: [
    { path: "/slots", isLive: true, read: readLlamaSlots },
    prometheus("/metrics", {
      running: ["llamacpp:requests_processing"],
      waiting: ["llamacpp:requests_deferred"],
      progress: ["llamacpp:tokens_predicted_total", "llamacpp:prompt_tokens_total"],
    }),
  ],
  loadHint: "start it with --slots or --metrics",
  match({ program, args }) {
    if (program === "llama-server") return args;
    if (program === "llama") {
      return args[0] === "serve" || args[0] === "server" ? args.slice(1) : null;
    }
    // The old name says little: it counts only with a model as this server is given one.
    return program === "server" && hasFlag(args, [...MODEL, ...REPO]) ? args : null;
  },
  argvFacts(args, env) {
    const named =
      lastFlag(args, ["-a", "--alias"]) ??
      env["LLAMA_ARG_ALIAS"] ??
      lastFlag(args, REPO) ??
      env["LLAMA_ARG_HF_REPO"] ??
      lastFlag(args, MODEL) ??
      env["LLAMA_ARG_MODEL"];
    const keys = commaList(lastFlag(args, ["--api-key"]) ?? env["LLAMA_API_KEY"]);
    const host = lastFlag(args, ["--host"]) ?? (env["LLAMA_ARG_HOST"] || null);
    const slots = wholeNumber(lastFlag(args, ["-np", "--parallel"]) ?? env["LLAMA_ARG_N_PARALLEL"]);
    return {
      port: portNumber(lastFlag(args, ["--port"]) ?? env["LLAMA_ARG_PORT"]),
      host,
      https: hasFlag(args, ["--ssl-key-file", "--ssl-cert-file"]),
      models: commaList(named),
      apiKey: keys[0] ?? null,
      apiKeyFile: lastFlag(args, ["--api-key-file"]),
      gpusWanted: gpusOf(args, env),
      maxInFlight: slots || null,
      noHttp: noHttp(args, env, host),
    };
  },
  models: openAiModels,
  capacity: async (ask) => tokensOf(fieldOf(await ask("/props"), "total_slots")),
};

function noHttp(
  args: readonly string[],
  env: Record<string, string | undefined>,
  host: string | null,
): string | null {
  if (host?.endsWith(".sock")) return `with --host ${host} it listens on a Unix socket`;
  const prefix = lastFlag(args, ["--api-prefix"]) ?? env["LLAMA_ARG_API_PREFIX"];
  return prefix ? `with --api-prefix ${prefix} its routes are not where they are asked for` : null;
}

/** It takes all GPUs that it sees, unless it is told which, or to split nothing. */
function gpusOf(args: readonly string[], env: Record<string, string | undefined>): number | null {
  const devices = commaList(lastFlag(args, ["-dev", "--device"]) ?? env["LLAMA_ARG_DEVICE"]);
  if (devices.length > 0) return devices[0] === "none" ? 0 : devices.length;
  const split = lastFlag(args, ["-sm", "--split-mode"]) ?? env["LLAMA_ARG_SPLIT_MODE"];
  return split === "none" ? 1 : null;
}
