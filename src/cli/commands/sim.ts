/** `llmnode sim`: a simulated engine, for trying things out, load tests and fault drills. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { LIKE_PORTS, LIKES, type LoraAdapter, type SimOptions } from "../../sim/options.ts";
import { createLog } from "../../util/log.ts";
import type { Options } from "../options.ts";
import { runDaemon } from "../shutdown.ts";
import type { CommandSpec } from "../spec.ts";

const TOKENS = { min: 1, max: Number.MAX_SAFE_INTEGER };

export const simCommand: CommandSpec = {
  name: "sim",
  usage: "sim --model <name> [options]",
  summary: "run a simulated engine: speaks like vLLM and others, no GPU, no model, made-up text",
  isDaemon: true,
  details: [
    "Its text is a pure function of model, prompt and position, and says that it is simulated.",
    "A token is four bytes of text.",
    "With --like it has the routes, shapes, errors, streams and metrics of another engine.",
  ],
  options: [
    {
      flag: "model",
      value: "<name>",
      repeat: true,
      env: "LLMNODE_SIM_MODEL",
      summary: "a model that it serves; needed at least once",
    },
    {
      flag: "like",
      value: "<engine>",
      env: "LLMNODE_SIM_LIKE",
      default: "vllm",
      summary: `the engine it speaks like: ${LIKES.join(", ")}`,
    },
    {
      flag: "lora",
      value: "<name=model>",
      repeat: true,
      env: "LLMNODE_SIM_LORA",
      summary: "a LoRA adapter of one of the models, listed beside it (vllm, sglang)",
    },
    {
      flag: "host",
      value: "<host>",
      env: "LLMNODE_SIM_HOST",
      default: "127.0.0.1",
      summary: "the address it listens on",
    },
    {
      flag: "port",
      value: "<port>",
      env: "LLMNODE_SIM_PORT",
      defaultNote: "8000, or the one of the --like engine",
      summary: "its port; 0 takes any free one and prints it",
    },
    {
      flag: "ttft",
      value: "<duration>",
      env: "LLMNODE_SIM_TTFT",
      default: "20ms",
      summary: "time to the first token",
    },
    {
      flag: "itl",
      value: "<duration>",
      env: "LLMNODE_SIM_ITL",
      default: "10ms",
      summary: "time between tokens; 0 is as fast as the client reads",
    },
    {
      flag: "load-time",
      value: "<duration>",
      env: "LLMNODE_SIM_LOAD_TIME",
      default: "0",
      summary: "how long loading the model takes",
    },
    {
      flag: "max-model-len",
      value: "<tokens>",
      env: "LLMNODE_SIM_MAX_MODEL_LEN",
      default: "32768",
      summary: "prompt and output tokens of one request, together",
    },
    {
      flag: "crash-after",
      value: "<tokens>",
      env: "LLMNODE_SIM_CRASH_AFTER",
      summary: "die when one request has produced so many tokens",
    },
    {
      flag: "die-mid-stream",
      value: "<tokens>",
      env: "LLMNODE_SIM_DIE_MID_STREAM",
      summary: "cut each stream's connection after so many tokens",
    },
    {
      flag: "error-rate",
      value: "<share>",
      env: "LLMNODE_SIM_ERROR_RATE",
      default: "0",
      summary: "the share of requests that is answered with an error, 0 to 1",
    },
    {
      flag: "error-in-stream",
      value: "<tokens>",
      env: "LLMNODE_SIM_ERROR_IN_STREAM",
      summary: "end each stream with an error event after so many tokens",
    },
    {
      flag: "silence",
      value: "<duration>",
      env: "LLMNODE_SIM_SILENCE",
      default: "0",
      summary: "fall silent for so long after each answer's first token",
    },
    {
      flag: "keep-alive",
      value: "<duration>",
      env: "LLMNODE_SIM_KEEP_ALIVE",
      defaultNote: "30s like llama-server, 15s like tgi, else never",
      summary: "send a comment in a stream that was silent for so long; 0 is never",
    },
    {
      flag: "health-time",
      value: "<duration>",
      env: "LLMNODE_SIM_HEALTH_TIME",
      defaultNote: "1s like sglang, else 0",
      summary: "how long a health check takes",
    },
    {
      flag: "no-done",
      env: "LLMNODE_SIM_NO_DONE",
      summary: "end streams without their end mark, such as data: [DONE]",
    },
    {
      flag: "refuse-stream-options",
      env: "LLMNODE_SIM_REFUSE_STREAM_OPTIONS",
      summary: "answer 400 to requests with stream_options",
    },
    { flag: "ignore-term", env: "LLMNODE_SIM_IGNORE_TERM", summary: "ignore SIGTERM" },
  ],
  examples: [
    "llmnode sim --model demo",
    "llmnode sim --model demo --port 0 --ttft 300ms --itl 20ms",
    "llmnode sim --model demo --load-time 20s --crash-after 500",
    "llmnode sim --model demo --like ollama",
  ],
  async run({ options }, terminal) {
    const wanted = readSim(options);
    const { startSim } = await import("../../sim/sim.ts");
    const log = createLog({
      isTty: terminal.errIsTty,
      color: terminal.errIsTty && terminal.color && !options.isOn("no-color"),
      write: (line) => terminal.err.write(line),
    });
    const starting = new AbortController();
    return runDaemon({
      log,
      start: () =>
        startSim({ ...wanted, print: (line) => terminal.out.write(`${line}\n`) }, starting.signal),
      abandonStart: starting,
      started: () => undefined,
      farewell: () => "the simulated engine stops",
      ignore: wanted.ignoreTerm ? ["SIGTERM"] : [],
    });
  },
};

/** The options as `startSim` takes them, but for where its lines go. Throws `usage`. */
export function readSim(options: Options): Omit<SimOptions, "print"> {
  const models = options.texts("model");
  if (models.length === 0) {
    throw new LlmnodeError("usage", "sim needs a model name: llmnode sim --model demo");
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
    loadTimeMs: needed("load-time", options.durationMs("load-time")),
    crashAfterTokens: options.integer("crash-after", TOKENS),
    dieMidStreamTokens: options.integer("die-mid-stream", TOKENS),
    ignoreTerm: options.isOn("ignore-term"),
    maxModelLen: needed("max-model-len", options.integer("max-model-len", TOKENS)),
    noDone: options.isOn("no-done"),
    refuseStreamOptions: options.isOn("refuse-stream-options"),
    errorRate: needed("error-rate", options.number("error-rate", { min: 0, max: 1 })),
    errorInStreamTokens: options.integer("error-in-stream", TOKENS),
    silenceMs: needed("silence", options.durationMs("silence")),
    keepAliveMs: options.durationMs("keep-alive"),
    healthTimeMs: options.durationMs("health-time"),
  };
}

function readAdapter(text: string, models: readonly string[], options: Options): LoraAdapter {
  const [, name, base] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || base === undefined || !models.includes(base)) {
    throw options.invalid("lora", "name=model with one of the models");
  }
  return { name, base };
}
