/** TensorRT-LLM: `trtllm-serve`, whose flags are spelled with underscores. */

import { firstPositional, lastFlag, portNumber, productOf, wholeNumber } from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { trtllmIterations } from "./load-json.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset, withQueue } from "./preset.ts";

// Subcommands that start something else than one OpenAI server.
const OTHER = new Set(["disaggregated", "disaggregated_mpi_worker", "mm_embedding_serve"]);
const GRPC = "grpc";

export const trtllm: EnginePreset = {
  ...COMMON,
  kind: "trtllm",
  defaultPort: 8000,
  defaultHost: "localhost",
  image: { name: /(?:^|\/)tensorrt-llm\/(?:release|devel)$/, entrypoint: [] },
  load: [
    prometheus("/prometheus/metrics", {
      running: ["trtllm_num_requests_running"],
      waiting: ["trtllm_num_requests_waiting"],
      kvUsage: ["trtllm_kv_cache_utilization"],
      progress: ["trtllm_generation_tokens_total", "trtllm_prompt_tokens_total"],
    }),
  ],
  destructiveLoad: trtllmIterations,
  loadHint: "set return_perf_metrics: true in the file of --config",
  match({ program, args }) {
    if (program !== "trtllm-serve" || OTHER.has(args[0] ?? "")) return null;
    return args[0] === "serve" || args[0] === "embeddings" ? args.slice(1) : args;
  },
  argvFacts(args) {
    if (args[0] === GRPC) return { noHttp: "trtllm-serve grpc speaks gRPC only" };
    const served = lastFlag(args, ["--served-model-name"]);
    const model = firstPositional(args);
    const name = served ?? (model === null ? null : modelName(model));
    return {
      port: portNumber(lastFlag(args, ["--port"])),
      host: lastFlag(args, ["--host"]),
      models: name === null ? [] : [name],
      // Expert parallelism divides these GPUs further, it takes no others.
      gpusWanted: productOf(
        lastFlag(args, ["--tp-size", "--tensor-parallel-size"]),
        lastFlag(args, ["--pp-size", "--pipeline-parallel-size"]),
      ),
      maxInFlight: withQueue(wholeNumber(lastFlag(args, ["--max-batch-size"]))),
      maxModelLen: wholeNumber(lastFlag(args, ["--max-seq-len"])),
    };
  },
  models: openAiModels,
};

/** A local folder is served under its last part, anything else under the name as given. */
function modelName(model: string): string {
  const isPath = /^[./~]/.test(model);
  return isPath ? (model.split("/").findLast((part) => part !== "") ?? model) : model;
}
