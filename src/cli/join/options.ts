/** The options of `llmnode join`. */

import { TOKEN_VARIABLE } from "../daemon/reexec.ts";
import { DAEMON_OPTIONS, DATA_DIR_OPTION } from "../base/spec.ts";
import type { OptionSpec } from "../base/options.ts";
import { VIA_PROXY_OPTION } from "../daemon/via-proxy.ts";

const ENGINE_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "attach",
    value: "<url>",
    env: "LLMNODE_ATTACH",
    summary: "use the engine that already runs there, such as http://127.0.0.1:11434",
  },
  {
    flag: "port",
    value: "<port>",
    env: "LLMNODE_PORT",
    defaultNote: "from the command or the engine's output",
    summary: "the engine's port",
  },
  {
    flag: "health-path",
    value: "<path>",
    env: "LLMNODE_HEALTH_PATH",
    defaultNote: "by the kind of engine",
    summary: "the engine is ready when it answers 2xx there",
  },
  {
    flag: "start-timeout",
    value: "<duration>",
    env: "LLMNODE_START_TIMEOUT",
    default: "30m",
    summary:
      "how long the engine may go without any progress while it starts before that counts as failed; 0: for ever",
  },
  {
    flag: "restart",
    value: "<when>",
    env: "LLMNODE_RESTART",
    default: "always",
    summary:
      "start an engine that ended again: always, on-failure (not after exit code 0) or no; otherwise join ends with it",
  },
  {
    flag: "stall-restart",
    value: "<when>",
    env: "LLMNODE_STALL_RESTART",
    default: "auto",
    summary:
      "restart an engine that runs but produces nothing: auto (if its process is stopped; if it is a known kind of engine, also if it does nothing, or fails to give one token for 3 minutes), on or off",
  },
  {
    flag: "no-adopt",
    env: "LLMNODE_NO_ADOPT",
    summary:
      "end an engine that an earlier worker left running and start it again, instead of adopting it",
  },
  {
    flag: "adopt-running",
    env: "LLMNODE_ADOPT_RUNNING",
    summary:
      "ask the worker that runs here with this name or command to leave, and adopt its running engine",
  },
  {
    flag: "gpus",
    value: "<list>",
    env: "LLMNODE_GPUS",
    defaultNote: "all that its command allows",
    summary: "the GPUs that the engine may use: 0,1 as nvidia-smi numbers them, or UUIDs",
  },
  {
    flag: "max-in-flight",
    value: "<n>",
    env: "LLMNODE_MAX_IN_FLIGHT",
    defaultNote: "from the engine",
    summary: "requests that the engine is given at once",
  },
  {
    flag: "env",
    value: "<NAME[=value]>",
    repeat: true,
    merges: true,
    isSecret: true,
    table: "env",
    summary:
      "a variable for the engine, NAME alone for this shell's own; a value is taken out of the process list at once, LLMNODE_SET_NAME=value or --env-file never show it there",
  },
  {
    flag: "env-file",
    value: "<file>",
    repeat: true,
    merges: true,
    isPath: true,
    env: "LLMNODE_ENV_FILE",
    summary:
      "variables for the engine, a line NAME=value each, # before comments, quotes are part of a value; --env wins",
  },
  {
    flag: "cwd",
    value: "<dir>",
    env: "LLMNODE_CWD",
    defaultNote: "the current one",
    isPath: true,
    summary: "the engine's working directory",
  },
];

const WORKER_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "name",
    value: "<name>",
    env: "LLMNODE_NAME",
    defaultNote: "the host's name",
    summary: "the worker's name",
  },
  {
    flag: "label",
    value: "<key=value>",
    repeat: true,
    merges: true,
    table: "labels",
    env: "LLMNODE_LABEL",
    summary: "a label for the worker",
  },
  {
    flag: "service",
    value: "<name>",
    env: "LLMNODE_SERVICE",
    summary: "offer an HTTP server that is not an engine, at /v1/service/<name>/ of the head",
  },
  {
    flag: "until",
    value: "<time>",
    env: "LLMNODE_UNTIL",
    summary:
      "leave so early that requests have ended and the engine is stopped by then: 18:30, +2h, 2026-11-21T18:30:00Z, @<Unix seconds>; SIGUSR1 has it leave now",
  },
  {
    flag: "drain-timeout",
    value: "<duration>",
    env: "LLMNODE_DRAIN_TIMEOUT",
    default: "30s",
    summary: "how long running requests may go on when the worker leaves",
  },
  {
    flag: "transport",
    value: "<kind>",
    env: "LLMNODE_TRANSPORT",
    default: "auto",
    choices: ["auto", "direct", "lane"],
    summary:
      "how requests reach the engine: direct (the head connects to it), lane (over connections that the worker opens), auto (direct on the same machine, else lane)",
  },
  {
    flag: "advertise",
    value: "<url>",
    env: "LLMNODE_ADVERTISE",
    summary: "the address at which the head reaches the engine",
  },
  {
    flag: "token",
    value: "<join token>",
    isSecret: true,
    env: TOKEN_VARIABLE,
    defaultNote: "on the head's machine its own",
    summary: "lets the worker in; taken out of the process list at once, the variable is better",
  },
  {
    flag: "token-file",
    value: "<file>",
    isPath: true,
    summary: "a file with the join token, --token-file=- for standard input; wins over --token",
  },
  VIA_PROXY_OPTION,
  DATA_DIR_OPTION,
  {
    flag: "insecure",
    env: "LLMNODE_INSECURE",
    summary: "the head runs with --insecure: nothing is encrypted, and whatever answers is trusted",
  },
];

export const JOIN_OPTIONS: OptionSpec[] = [...ENGINE_OPTIONS, ...WORKER_OPTIONS, ...DAEMON_OPTIONS];
