/** vLLM: `vllm serve` and its OpenAI API server (vllm/entrypoints/openai/cli_args.py). */

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
import { fieldOf, openAiModels, textOf } from "./model-list.ts";
import { COMMON, type EnginePreset, withQueue } from "./preset.ts";

// Flags with `nargs="+"`: they take every word up to the next flag.
const LISTS = ["--served-model-name", "--api-key", "--lora-modules", "--middleware"];
// Each data-parallel rank is then a server of its own, behind somebody else's balancer.
const EXTERNAL_RANKS = ["--data-parallel-rank", "-dpn", "--data-parallel-external-lb"];

export const vllm: EnginePreset = {
  ...COMMON,
  kind: "vllm",
  defaultPort: 8000,
  configFlag: "--config",
  stopTimeoutMs: 30_000,
  image: {
    name: /(?:^|\/)vllm-(?:openai|cpu|tpu)[\w.-]*$|(?:^|\/)vllm$/,
    entrypoint: ["vllm", "serve"],
  },
  // Names: vllm/v1/metrics/loggers.py; `gpu_` before 0.9.2.
  load: [
    prometheus(
      "/metrics",
      {
        running: ["vllm:num_requests_running"],
        waiting: ["vllm:num_requests_waiting"],
        kvUsage: ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
        prefixHitTokens: ["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"],
        prefixQueryTokens: [
          "vllm:prefix_cache_queries_total",
          "vllm:gpu_prefix_cache_queries_total",
        ],
        progress: ["vllm:generation_tokens_total", "vllm:prompt_tokens_total"],
      },
      // Counted in each step (IterationStats).
      { isLive: true },
    ),
  ],
  loadHint: "start it without --disable-log-stats",
  match({ program, args }) {
    if (program === "vllm" || program === "vllm.entrypoints.cli.main") {
      return args[0] === "serve" ? args.slice(1) : null;
    }
    return program === "vllm.entrypoints.openai.api_server" ? args : null;
  },
  argvFacts(args, env) {
    const served = listFlag(args, ["--served-model-name"]);
    // What stands first is the model, whatever a configuration file says.
    const first = args[0]?.startsWith("-") === false ? args[0] : null;
    const model = first ?? lastFlag(args, ["--model"]) ?? firstPositional(args, LISTS);
    const adapters = listFlag(args, ["--lora-modules"]).map(adapterName);
    const names = served.length > 0 ? served : model === null ? [] : [model];
    const sequences = wholeNumber(lastFlag(args, ["--max-num-seqs"]));
    const ranks = lastFlag(args, ["-dp", "--data-parallel-size"]);
    const shutdownS = wholeNumber(lastFlag(args, ["--shutdown-timeout"])) ?? 0;
    const isOneRank = hasFlag(args, EXTERNAL_RANKS);
    return {
      port: portNumber(lastFlag(args, ["--port"])),
      host: lastFlag(args, ["--host"]),
      https: hasFlag(args, ["--ssl-keyfile", "--ssl-certfile"]),
      models: [...names, ...adapters.filter((name) => name !== "")],
      apiKey: listFlag(args, ["--api-key"])[0] ?? (env["VLLM_API_KEY"] || null),
      gpusWanted: gpusOf(args, isOneRank ? null : ranks),
      maxInFlight:
        sequences === null
          ? null
          : withQueue(sequences * (isOneRank ? 1 : (productOf(ranks) ?? 1))),
      // Its children take about 30 s more after that.
      stopTimeoutMs: shutdownS > 0 ? shutdownS * 1000 + 30_000 : null,
      noHttp: noHttp(args),
    };
  },
  models: openAiModels,
};

function gpusOf(args: readonly string[], ranks: string | null): number | null {
  const local = lastFlag(args, ["-dpl", "--data-parallel-size-local"]) ?? ranks;
  const all = productOf(
    lastFlag(args, ["-tp", "--tensor-parallel-size"]),
    lastFlag(args, ["-pp", "--pipeline-parallel-size"]),
    local,
  );
  const nodes = wholeNumber(lastFlag(args, ["--nnodes"])) ?? 1;
  return all === null ? null : Math.ceil(all / Math.max(1, nodes));
}

function noHttp(args: readonly string[]): string | null {
  if (hasFlag(args, ["--headless"])) return "with --headless it has no HTTP port";
  if (hasFlag(args, ["--grpc"])) return "with --grpc it speaks gRPC only";
  if (hasFlag(args, ["--uds"])) return "with --uds it listens on a Unix socket only";
  return null;
}

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
