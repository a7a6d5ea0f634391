/** Any other server that speaks OpenAI's API, told apart by talking to it once it runs. */

import { lastFlag, portNumber } from "../flags.ts";
import { openAiModels } from "./model-list.ts";
import { COMMON, type EnginePreset } from "./preset.ts";

// They start something elsewhere: a port in their arguments is not one of this machine.
const REMOTE = new Set(["docker", "docker-compose", "podman", "nerdctl", "kubectl", "ssh"]);

export const generic: EnginePreset = {
  ...COMMON,
  kind: "generic",
  defaultPort: null,
  // It may turn out to be the most patient one.
  probeTimeoutMs: 25_000,
  match: ({ program, args }) => (REMOTE.has(program) ? [] : args),
  argvFacts: (args) => ({
    port: portNumber(lastFlag(args, ["--port"])),
    host: lastFlag(args, ["--host"]),
    apiKey: lastFlag(args, ["--api-key"]),
  }),
  models: openAiModels,
};
