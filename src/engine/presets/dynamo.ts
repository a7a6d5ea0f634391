/** NVIDIA Dynamo's front end; its workers come and go behind it. */

import { hasFlag, lastFlag, portNumber } from "../flags.ts";
import { prometheus } from "../load-source.ts";
import { fieldOf, openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

const FRONT_END = "dynamo.frontend";
const WORKER = /^dynamo\.(?:vllm|sglang|trtllm|llama_cpp|mocker)$/;

export const dynamo: EnginePreset = {
  ...COMMON,
  kind: "dynamo",
  defaultPort: 8000,
  load: [
    prometheus("/metrics", {
      running: ["dynamo_frontend_inflight_requests"],
      waiting: ["dynamo_frontend_queued_requests"],
      progress: ["dynamo_frontend_output_tokens_total"],
    }),
  ],
  match({ program, args }) {
    if (program === FRONT_END) return args;
    // The worker's name stands first, so that `argvFacts` tells it from the front end.
    return WORKER.test(program) ? [program, ...args] : null;
  },
  argvFacts(args, env) {
    if (WORKER.test(args[0] ?? "")) {
      return { noHttp: `${args[0]} has no HTTP port, the front end (${FRONT_END}) has` };
    }
    const model = lastFlag(args, ["--model-name"]);
    return {
      port: portNumber(lastFlag(args, ["--http-port"]) ?? env["DYN_HTTP_PORT"]),
      host: lastFlag(args, ["--http-host"]) ?? (env["DYN_HTTP_HOST"] || null),
      https: hasFlag(args, ["--tls-cert-path"]),
      models: model === null ? [] : [model],
    };
  },
  // It answers 200 also without any worker and says so in the body only.
  unwell: (body) => (fieldOf(body, "status") === "unhealthy" ? "it has no workers yet" : null),
  models: openAiModels,
};
