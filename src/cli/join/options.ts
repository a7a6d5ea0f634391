/** The options of `llmnode join`. */

import { TOKEN_VARIABLE } from "../daemon/reexec.ts";
import { DAEMON_OPTIONS, DATA_DIR_OPTION } from "../base/spec.ts";
import { type OptionSpec, withVariables } from "../base/options.ts";
import { VIA_PROXY_OPTION } from "../daemon/via-proxy.ts";

const OWN_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "attach",
    value: "<url>",
    summary: "use the engine that already runs there, such as http://127.0.0.1:11434",
  },
  {
    flag: "port",
    value: "<port>",
    defaultNote: "from the command or the engine's output",
    summary: "the engine's port",
  },
  {
    flag: "health-path",
    value: "<path>",
    defaultNote: "by the kind of engine",
    summary: "the engine is ready when it answers 2xx there",
  },
  {
    flag: "start-timeout",
    value: "<duration>",
    default: "30m",
    summary:
      "how long the engine may go without any progress while it starts before that counts as failed; 0: for ever",
  },
  {
    flag: "restart",
    value: "<when>",
    default: "always",
    summary:
      "start an engine that ended again: always, on-failure (not after exit code 0) or no; otherwise join ends with it",
  },
  {
    flag: "stall-restart",
    value: "<when>",
    default: "auto",
    summary:
      "restart an engine that runs but produces nothing: auto (if its process is stopped; if it is a known kind of engine, also if it does nothing, or fails to give one token for 3 minutes), on or off",
  },
  {
    flag: "no-adopt",
    summary:
      "end an engine that an earlier worker left running and start it again, instead of adopting it",
  },
  {
    flag: "adopt-running",
    summary:
      "ask the worker that runs here with this name or command to leave, and adopt its running engine",
  },
  {
    flag: "gpus",
    value: "<list>",
    defaultNote: "all that its command allows",
    summary: "the GPUs that the engine may use: 0,1 as nvidia-smi numbers them, or UUIDs",
  },
  {
    flag: "max-in-flight",
    value: "<n>",
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
    summary:
      "variables for the engine, a line NAME=value each, # before comments, quotes are part of a value; --env wins",
  },
  {
    flag: "cwd",
    value: "<dir>",
    defaultNote: "the current one",
    isPath: true,
    summary: "the engine's working directory",
  },
  {
    flag: "name",
    value: "<name>",
    defaultNote: "the host's name",
    summary: "the worker's name",
  },
  {
    flag: "label",
    value: "<key=value>",
    repeat: true,
    merges: true,
    table: "labels",
    summary: "a label for the worker",
  },
  {
    flag: "service",
    value: "<name>",
    summary: "offer an HTTP server that is not an engine, at /v1/service/<name>/ of the head",
  },
  {
    flag: "until",
    value: "<time>",
    summary:
      "leave so early that requests have ended and the engine is stopped by then: 18:30, +2h, 2026-11-21T18:30:00Z, @<Unix seconds>; SIGUSR1 has it leave now",
  },
  {
    flag: "drain-timeout",
    value: "<duration>",
    default: "30s",
    summary: "how long running requests may go on when the worker leaves",
  },
  {
    flag: "transport",
    value: "<kind>",
    default: "auto",
    choices: ["auto", "direct", "lane"],
    summary:
      "how requests reach the engine: direct (the head connects to it), lane (over connections that the worker opens), auto (direct on the same machine, else lane)",
  },
  {
    flag: "advertise",
    value: "<url>",
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
    summary: "the head runs with --insecure: nothing is encrypted, and whatever answers is trusted",
  },
];

export const JOIN_OPTIONS: OptionSpec[] = [
  ...withVariables(OWN_OPTIONS, { without: ["env", "token-file"] }),
  ...DAEMON_OPTIONS,
];
