/** One command from argv to its exit code, with every failure told on stderr. */

import type { LlmnodeError } from "../protocol/errors.ts";
import { sleep } from "../util/sleep.ts";
import { commandTable } from "./commands.ts";
import { EXIT_CODES } from "./base/exit-codes.ts";
import { formatError, toLlmnodeError } from "./base/messages.ts";
import { parseCommandLine } from "./parse/parse.ts";
import type { CommandSpec, Invocation } from "./base/spec.ts";
import type { Environment } from "./base/options.ts";
import { openTerminal, type Terminal } from "./base/terminal.ts";

/** The last log lines are worth a moment, but not a process that cannot be stopped. */
const DAEMON_FLUSH_MS = 2000;

/** `argv` is what the user typed, without the program. Never throws. */
export async function runCli(
  argv: readonly string[],
  env: Environment,
  terminal: Terminal = openTerminal(env),
): Promise<number> {
  let command: CommandSpec | null = null;
  try {
    const invocation = parseCommandLine(argv, commandTable(), env);
    command = invocation.command;
    if (command.isDaemon !== true) {
      for (const warning of invocation.warnings) terminal.err.write(`warning: ${warning}\n`);
    }
    return await command.run({ ...invocation, ...progressOf(invocation, terminal) }, terminal);
  } catch (error) {
    const known = toLlmnodeError(error);
    tell(error, { argv, env, terminal });
    return exitCode(known, command);
  } finally {
    const flushed = Promise.all([terminal.out.flush(), terminal.err.flush()]);
    await (command?.isDaemon === true ? within(flushed, DAEMON_FLUSH_MS) : flushed);
  }
}

/** Said once: a person then knows. Not where stderr is for a program. */
function progressOf({ command, options }: Invocation, terminal: Terminal) {
  const hasJson = command.options.some(({ flag }) => flag === "json");
  if (command.isDaemon === true || command.isHidden === true) return {};
  if (hasJson && options.isOn("json")) return {};
  let isShown = false;
  return {
    progress(text: string) {
      if (!isShown) terminal.err.write(`${text}\n`);
      isShown = true;
    },
  };
}

async function within(work: Promise<unknown>, limitMs: number): Promise<void> {
  const done = new AbortController();
  await Promise.race([work.finally(() => done.abort()), sleep(limitMs, done.signal)]);
}

function exitCode({ code }: LlmnodeError, command: CommandSpec | null): number {
  return command?.exitCode?.(code) ?? EXIT_CODES[code];
}

interface Surroundings {
  argv: readonly string[];
  env: Environment;
  terminal: Terminal;
}

/** The style is read off the raw words: the command line may be what could not be understood. */
function tell(error: unknown, { argv, env, terminal }: Surroundings): void {
  const end = argv.indexOf("--");
  const words = end === -1 ? argv : argv.slice(0, end);
  const plain = words.includes("--no-color") || isSet(env["LLMNODE_NO_COLOR"]);
  const color = terminal.errIsTty && terminal.color && !plain;
  const debug = words.includes("--debug") || isSet(env["LLMNODE_DEBUG"]);
  terminal.err.write(formatError(error, { json: words.includes("--json"), color, debug }));
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && !["", "0", "false", "no", "off"].includes(value.toLowerCase());
}
