/** SGLang: `sglang serve` and `python -m sglang.launch_server` (sglang/srt/server_args.py). */

import {
  firstPositional,
  hasFlag,
  lastFlag,
  portNumber,
  productOf,
  wholeNumber,
} from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { readSglangLoads, sglangCapacity } from "./load-json.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset, withQueue } from "./preset.ts";

const PREFIXES = { prefixes: true };

export const sglang: EnginePreset = {
  ...COMMON,
  kind: "sglang",
  defaultPort: 30_000,
  defaultHost: "127.0.0.1",
  configFlag: "--config",
  // A healthy `/health` generates a token: it takes 1 to 20 s.
  probeTimeoutMs: 25_000,
  stopTimeoutMs: 30_000,
  image: { name: /(?:^|\/)sglang$/, entrypoint: [] },
  load: [
    { path: "/v1/loads?include=core", isLive: true, read: readSglangLoads },
    // Names: srt/observability/metrics_collector.py; only with --enable-metrics.
    prometheus("/metrics", {
      running: ["sglang:num_running_reqs"],
      waiting: ["sglang:num_queue_reqs"],
      kvUsage: ["sglang:token_usage"],
      progress: ["sglang:generation_tokens_total", "sglang:prompt_tokens_total"],
    }),
  ],
  loadHint: "start it with --enable-metrics",
  match({ program, args }) {
    if (program === "sglang") return args[0] === "serve" ? args.slice(1) : null;
    return program === "sglang.launch_server" ? args : null;
  },
  argvFacts(args) {
    const flag = (...names: string[]) => lastFlag(args, names, PREFIXES);
    const model = flag("--served-model-name") ?? flag("--model-path", "--model");
    const named = model ?? firstPositional(args);
    // With attention data parallelism the ranks share the tensor-parallel GPUs.
    const ranks = hasFlag(args, ["--enable-dp-attention"]) ? null : dataParallel(args);
    const all = productOf(tensorParallel(args), pipelineParallel(args), ranks);
    const nodes = wholeNumber(flag("--nnodes")) ?? 1;
    return {
      port: portNumber(flag("--port")),
      host: flag("--host"),
      https: hasFlag(args, ["--ssl-keyfile", "--ssl-certfile"]),
      models: named === null ? [] : [named],
      apiKey: flag("--api-key"),
      gpusWanted: all === null ? null : Math.ceil(all / Math.max(1, nodes)),
      maxInFlight: withQueue(wholeNumber(flag("--max-running-requests"))),
      noHttp: noHttp(args),
    };
  },
  models: openAiModels,
  capacity: async (ask) => withQueue(sglangCapacity(await ask("/v1/loads?include=core"))),
};

const tensorParallel = (args: readonly string[]) =>
  lastFlag(args, ["--tp", "--tp-size", "--tensor-parallel-size"], PREFIXES);
const pipelineParallel = (args: readonly string[]) =>
  lastFlag(args, ["--pp", "--pp-size", "--pipeline-parallel-size"], PREFIXES);
const dataParallel = (args: readonly string[]) =>
  lastFlag(args, ["--dp", "--dp-size", "--data-parallel-size"], PREFIXES);

function noHttp(args: readonly string[]): string | null {
  const grpc = ["--smg-grpc-mode", "--grpc-mode"].find((name) => hasFlag(args, [name]));
  if (grpc !== undefined) return `with ${grpc} it speaks gRPC only`;
  const rank = wholeNumber(lastFlag(args, ["--node-rank"])) ?? 0;
  return rank > 0 ? `with --node-rank ${rank} it serves no requests` : null;
}
