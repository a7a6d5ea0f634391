/** Every kind of engine that can be simulated, each in its own file. */

import type { Like } from "./core/options.ts";
import type { Dialect } from "./api/dialect.ts";
import { llamaServer } from "./like/llama-server.ts";
import { ollama } from "./like/ollama.ts";
import { sglang } from "./like/sglang.ts";
import { tgi } from "./like/tgi.ts";
import { vllm } from "./like/vllm.ts";

export const DIALECTS: Readonly<Record<Like, Dialect>> = {
  vllm,
  sglang,
  tgi,
  ollama,
  "llama-server": llamaServer,
};
