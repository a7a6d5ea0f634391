/** The shape of the command table, from which parsing, environment, help and messages are made. */

import type { ErrorCode } from "../../protocol/errors.ts";
import type { Environment, Options, OptionSpec } from "./options.ts";
import type { Terminal } from "./terminal.ts";

export interface ArgumentSpec {
  /** Its name in usage and messages, without brackets. */
  name: string;
  required: boolean;
  /** Whether several may be given. */
  repeats?: boolean;
  /** The words that it can be, where these are fixed. */
  words?: readonly string[];
}

export interface CommandSpec {
  name: string;
  /** Other words for it. */
  aliases?: readonly string[];
  /** Not for people: in no list, and never what somebody may have meant. */
  isHidden?: boolean;
  /** What follows `llmnode ` in its usage line. */
  usage: string;
  /** One line for the list of commands. */
  summary: string;
  /** More lines for its own help page. */
  details?: string[];
  argument?: ArgumentSpec;
  /** A word after that one; it is never required by the command line itself. */
  secondArgument?: ArgumentSpec;
  /** Whether it runs until it is stopped; its end then does not wait for a reader that stalls. */
  isDaemon?: boolean;
  /** Whether words after `--` mean something to it. */
  takesRest?: boolean;
  /** The keys in its configuration file that stand for its argument and for words after `--`. */
  configKeys?: { argument: string; rest: string };
  /** Whether a table of its name in a shared configuration file gives its options. */
  hasConfigTable?: boolean;
  /** Whether it runs without a look at any configuration file that was not named to it. */
  ignoresConfig?: boolean;
  options: OptionSpec[];
  examples: string[];
  /** A message for words too many, where the command can say more than "unexpected". */
  explainExtraWords?: (words: readonly string[], typed: readonly string[]) => string;
  /** Reads its options as `run` does, and no more. Throws `usage`. */
  check?: (invocation: Invocation) => void;
  /** Exit codes that differ from the general table. */
  exitCode?: (code: ErrorCode) => number;
  /** Does the work; its number is the exit code. Expected failures are thrown. */
  run: (invocation: Invocation, terminal: Terminal) => Promise<number>;
}

/** A command line that was understood. */
export interface Invocation {
  command: CommandSpec;
  /** The command's words, exactly as typed. */
  words: readonly string[];
  /** Everything after the first `--`, untouched; null when there was no `--`. */
  rest: readonly string[] | null;
  /** Whether `rest` is from the configuration file. */
  isRestFromFile: boolean;
  options: Options;
  env: Environment;
  /** What is to be said about configuration files before it runs. */
  warnings: readonly string[];
  /** Says on stderr what a person waits for, once it takes a while. */
  progress?: (text: string) => void;
}

export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  {
    flag: "head",
    value: "<url>",
    env: "LLMNODE_HEAD",
    default: "http://127.0.0.1:8092",
    summary: "the head that commands talk to: host, host:port, URL, or a name of [heads]",
  },
  {
    flag: "ca",
    value: "<file>",
    env: "LLMNODE_CA",
    defaultNote: "the system's, and a head on this machine",
    summary: "the authorities to trust when --head is https, in PEM",
  },
  {
    flag: "token-file",
    value: "<file>",
    defaultNote: "$LLMNODE_ADMIN_TOKEN, that of a head on this machine, or $LLMNODE_API_KEY",
    summary: "a file with the head's admin token or an API key, --token-file=- for standard input",
    isPath: true,
  },
  {
    flag: "timeout",
    value: "<duration>",
    env: "LLMNODE_TIMEOUT",
    default: "5s",
    summary: "how long to wait for the head's answer",
  },
  { flag: "no-color", env: "LLMNODE_NO_COLOR", summary: "no colours (NO_COLOR=1 does the same)" },
  {
    flag: "debug",
    env: "LLMNODE_DEBUG",
    summary: "show the stack with an error; head and join also log details",
  },
  { flag: "help", short: "h", summary: "show help for the command" },
  { flag: "version", summary: "show the version" },
];

/** Those of them that a command does not mean otherwise: `join` has a token file of its own. */
export function globalOptionsOf(command: Pick<CommandSpec, "options"> | undefined): OptionSpec[] {
  const own = new Set(command?.options.map(({ flag }) => flag));
  return GLOBAL_OPTIONS.filter(({ flag }) => !own.has(flag));
}

/** A command that has it takes all its other options from the file as well. */
export const CONFIG_OPTION: OptionSpec = {
  flag: "config",
  value: "<file>",
  env: "LLMNODE_CONFIG",
  summary:
    "a TOML file with any of these options, instead of llmnode.toml and those of: llmnode config path",
  isPath: true,
};

/** The options of every command that runs until it is stopped. */
export const DAEMON_OPTIONS: readonly OptionSpec[] = [
  CONFIG_OPTION,
  {
    flag: "log-format",
    value: "<format>",
    env: "LLMNODE_LOG_FORMAT",
    default: "auto",
    choices: ["auto", "text", "logfmt", "json"],
    summary: "auto, text, logfmt or json; auto is text on a terminal, logfmt elsewhere",
  },
  {
    flag: "log-level",
    value: "<level>",
    env: "LLMNODE_LOG_LEVEL",
    default: "info",
    choices: ["debug", "info", "warn", "error"],
    summary: "debug, info, warn or error",
  },
];

export const DATA_DIR_OPTION: OptionSpec = {
  flag: "data-dir",
  value: "<dir>",
  env: "LLMNODE_DATA",
  defaultNote: "$XDG_STATE_HOME/llmnode or ~/.local/state/llmnode",
  summary: "where it keeps its state",
  isPath: true,
};
