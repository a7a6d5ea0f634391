/** The options of `llmnode sim`. */

import { usage } from "../base/messages.ts";
import { LIKE_PORTS, LIKES, type LoraAdapter, type SimOptions } from "../../sim/core/options.ts";
import { type Options, type OptionSpec, withVariables } from "../base/options.ts";
import { FAULTS, readFaults } from "./faults.ts";

/** What it serves and how fast. */
const OWN_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "model",
    value: "<name>",
    repeat: true,
    summary: "a model that it serves; needed at least once",
  },
  {
    flag: "like",
    value: "<engine>",
    default: "vllm",
    summary: `the engine it speaks like: ${LIKES.join(", ")}`,
  },
  {
    flag: "lora",
    value: "<name=model>",
    repeat: true,
    summary: "a LoRA adapter of one of the models, listed beside it (vllm, sglang)",
  },
  {
    flag: "host",
    value: "<host>",
    default: "127.0.0.1",
    summary: "the address it listens on",
  },
  {
    flag: "port",
    value: "<port>",
    defaultNote: "8000, or the one of the --like engine",
    summary: "its port; 0 takes any free one and prints it",
  },
  {
    flag: "ttft",
    value: "<duration>",
    default: "20ms",
    summary: "time to the first token",
  },
  {
    flag: "itl",
    value: "<duration>",
    default: "10ms",
    summary: "time between tokens; 0 is as fast as the client reads",
  },
  {
    flag: "itl-per-seq",
    value: "<duration>",
    default: "0",
    summary: "added to that for each other request that runs",
  },
  {
    flag: "prefill-rate",
    value: "<tokens>",
    defaultNote: "prompts take no time",
    summary: "prompt tokens computed a second, one prompt after the other, before --ttft begins",
  },
  {
    flag: "max-num-seqs",
    value: "<count>",
    defaultNote: "no limit",
    summary: "requests that run at once; more of them wait, first come, first served",
  },
  {
    flag: "kv-tokens",
    value: "<tokens>",
    defaultNote: "no limit, no prefix cache",
    summary: "size of the KV cache: prompts are found again by prefix, what does not fit waits",
  },
  {
    flag: "load-time",
    value: "<duration>",
    default: "0",
    summary: "how long loading the model takes",
  },
  {
    flag: "max-model-len",
    value: "<tokens>",
    default: "32768",
    summary: "prompt and output tokens of one request, together",
  },
  {
    flag: "keep-alive",
    value: "<duration>",
    defaultNote: "30s like llama-server, 15s like tgi, else never",
    summary: "send a comment in a stream that was silent for this long; 0 is never",
  },
  {
    flag: "fault",
    value: "<name[=value]>",
    repeat: true,
    choices: FAULTS.map(({ flag, value }) => (value === undefined ? flag : `${flag}=`)),
    summary: "what goes wrong with it; the names are listed by: llmnode sim faults",
  },
];

export const SIM_OPTIONS = withVariables(OWN_OPTIONS, { prefix: "LLMNODE_SIM_" });

const TOKENS = { min: 1, max: Number.MAX_SAFE_INTEGER };

/** The options as `startSim` takes them, but for where its lines go. Throws `usage`. */
export function readSim(options: Options): Omit<SimOptions, "print"> {
  const models = options.texts("model");
  if (models.length === 0) {
    throw usage("sim needs a model name: llmnode sim --model demo");
  }
  const needed = <T>(flag: string, value: T | null): T => {
    if (value === null) throw new Error(`--${flag} has no default`);
    return value;
  };
  const like = options.choice("like", LIKES);
  return {
    models,
    like,
    adapters: options.texts("lora").map((text) => readAdapter(text, models, options)),
    host: needed("host", options.text("host")),
    port: options.integer("port", { min: 0, max: 65_535 }) ?? LIKE_PORTS[like],
    ttftMs: needed("ttft", options.durationMs("ttft")),
    itlMs: needed("itl", options.durationMs("itl")),
    itlPerSeqMs: options.durationMs("itl-per-seq") ?? 0,
    prefillRate: options.integer("prefill-rate", TOKENS),
    maxNumSeqs: options.integer("max-num-seqs", TOKENS),
    kvTokens: options.integer("kv-tokens", TOKENS),
    loadTimeMs: needed("load-time", options.durationMs("load-time")),
    maxModelLen: needed("max-model-len", options.integer("max-model-len", TOKENS)),
    keepAliveMs: options.durationMs("keep-alive"),
    ...readFaults(options),
  };
}

function readAdapter(text: string, models: readonly string[], options: Options): LoraAdapter {
  const [, name, base] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || base === undefined || !models.includes(base)) {
    throw options.invalid("lora", "name=model with one of the models");
  }
  return { name, base };
}
