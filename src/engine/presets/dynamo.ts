/** NVIDIA Dynamo's front end; its workers come and go behind it. */

import { hasFlag, lastFlag, portNumber } from "../flags.ts";
import { fieldOf, openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

export const dynamo: EnginePreset = {
  ...COMMON,
  kind: "dynamo",
  defaultPort: 8000,
  match: ({ program, args }) => (program === "dynamo.frontend" ? args : null),
  hints(args, env) {
    const model = lastFlag(args, ["--model-name"]);
    return {
      port: portNumber(lastFlag(args, ["--http-port"]) ?? env["DYN_HTTP_PORT"]),
      host: lastFlag(args, ["--http-host"]) ?? (env["DYN_HTTP_HOST"] || null),
      https: hasFlag(args, ["--tls-cert-path"]),
      models: model === null ? [] : [model],
      apiKey: null,
    };
  },
  // It answers 200 also without any worker and says so in the body only.
  unwell: (body) => (fieldOf(body, "status") === "unhealthy" ? "it has no workers yet" : null),
  models: openAiModels,
};
