/** Every kind of engine that is known, each in its own file. */

import type { EngineKind } from "../status.ts";
import { dynamo } from "./dynamo.ts";
import { generic } from "./generic.ts";
import { llamaServer } from "./llama-server.ts";
import { lmdeploy } from "./lmdeploy.ts";
import { ollama } from "./ollama.ts";
import type { EnginePreset } from "./preset.ts";
import { sglang } from "./sglang.ts";
import { sim } from "./sim.ts";
import { tei } from "./tei.ts";
import { tgi } from "./tgi.ts";
import { trtllm } from "./trtllm.ts";
import { vllm } from "./vllm.ts";

/** By kind; `generic` matches any command and therefore stands last. */
export const PRESETS: Readonly<Record<EngineKind, EnginePreset>> = {
  vllm,
  sglang,
  tgi,
  tei,
  ollama,
  "llama-server": llamaServer,
  trtllm,
  lmdeploy,
  dynamo,
  sim,
  generic,
};
