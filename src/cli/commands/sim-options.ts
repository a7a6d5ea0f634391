/** The flags of `llmnode sim`: what it is, and what goes wrong with it. */

import { FAILS, LIKES } from "../../sim/core/options.ts";
import type { OptionSpec } from "../base/options.ts";

/** What it serves and how fast. */
export const SIM_OPTIONS: readonly OptionSpec[] = [
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
    flag: "itl-per-seq",
    value: "<duration>",
    env: "LLMNODE_SIM_ITL_PER_SEQ",
    default: "0",
    summary: "added to that for each other request that runs",
  },
  {
    flag: "prefill-rate",
    value: "<tokens>",
    env: "LLMNODE_SIM_PREFILL_RATE",
    defaultNote: "prompts take no time",
    summary: "prompt tokens computed a second, one prompt after the other, before --ttft begins",
  },
  {
    flag: "max-num-seqs",
    value: "<count>",
    env: "LLMNODE_SIM_MAX_NUM_SEQS",
    defaultNote: "no limit",
    summary: "requests that run at once; more of them wait, first come, first served",
  },
  {
    flag: "kv-tokens",
    value: "<tokens>",
    env: "LLMNODE_SIM_KV_TOKENS",
    defaultNote: "no limit, no prefix cache",
    summary: "size of the KV cache: prompts are found again by prefix, what does not fit waits",
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
];

/** What goes wrong with it. */
export const FAULT_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "crash-after",
    value: "<tokens>",
    env: "LLMNODE_SIM_CRASH_AFTER",
    summary: "die when one request has produced so many tokens",
  },
  {
    flag: "crash-on-text",
    value: "<text>",
    env: "LLMNODE_SIM_CRASH_ON_TEXT",
    summary: "die of each prompt that contains this text, once it is read",
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
  {
    flag: "slow-health",
    value: "<duration>",
    env: "LLMNODE_SIM_SLOW_HEALTH",
    summary: "the same as --health-time",
  },
  {
    flag: "exit-code",
    value: "<code>",
    env: "LLMNODE_SIM_EXIT_CODE",
    defaultNote: "1, or as the engine has it",
    summary: "the exit code of every death that is played; 137 is SIGKILL of itself",
  },
  {
    flag: "exit-after",
    value: "<duration>",
    env: "LLMNODE_SIM_EXIT_AFTER",
    summary: "die so long after it was ready",
  },
  {
    flag: "fail",
    value: "<class>",
    env: "LLMNODE_SIM_FAIL",
    summary: `print what the engine prints when its start fails, and end: ${FAILS.join(", ")}`,
  },
  {
    flag: "hang-after",
    value: "<duration|requests>",
    env: "LLMNODE_SIM_HANG_AFTER",
    summary: "so long after it was ready, or after so many requests, answer nothing any more",
  },
  {
    flag: "health-lies",
    env: "LLMNODE_SIM_HEALTH_LIES",
    summary: "answer health checks and lists even while it hangs",
  },
  {
    flag: "spam-log",
    value: "<size[/s]>",
    env: "LLMNODE_SIM_SPAM_LOG",
    summary: "print so much senseless log, in all (100MB) or each second (10MB/s)",
  },
  {
    flag: "bind-late",
    value: "<duration>",
    env: "LLMNODE_SIM_BIND_LATE",
    default: "0",
    summary: "leave the port alone for so long after it would be opened",
  },
  {
    flag: "bound-not-listening",
    value: "<duration>",
    env: "LLMNODE_SIM_BOUND_NOT_LISTENING",
    default: "0",
    summary: "find the port free at the start, but refuse connections for so long after the load",
  },
  {
    flag: "reset-while-loading",
    env: "LLMNODE_SIM_RESET_WHILE_LOADING",
    summary: "take connections while it loads and reset them, as docker's proxy does",
  },
  {
    flag: "idle-close",
    value: "<seconds>",
    env: "LLMNODE_SIM_IDLE_CLOSE",
    summary: "close connections that have been idle for so many seconds; uvicorn: 5",
  },
  {
    flag: "fork-child",
    env: "LLMNODE_SIM_FORK_CHILD",
    summary: "start a child that outlives it, in its process group",
  },
  {
    flag: "setsid-child",
    env: "LLMNODE_SIM_SETSID_CHILD",
    summary: "start a child that outlives it, in a session of its own",
  },
  {
    flag: "progress-bar",
    env: "LLMNODE_SIM_PROGRESS_BAR",
    summary: "draw the percentages of the load on stderr, each over the last one",
  },
  {
    flag: "kill-on-term",
    env: "LLMNODE_SIM_KILL_ON_TERM",
    summary: "on SIGTERM end by SIGKILL of itself, as SGLang does",
  },
];
