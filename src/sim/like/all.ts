/** Every kind of engine that can be simulated, each in its own file. */

import type { Like } from "../options.ts";
import type { Dialect } from "./dialect.ts";
import { llamaServer } from "./llama-server.ts";
import { ollama } from "./ollama.ts";
import { sglang } from "./sglang.ts";
import { tgi } from "./tgi.ts";
import { vllm } from "./vllm.ts";

export const DIALECTS: Readonly<Record<Like, Dialect>> = {
  vllm,
  sglang,
  tgi,
  ollama,
  "llama-server": llamaServer,
};
