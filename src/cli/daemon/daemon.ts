/** What `head` and `join` share: their log, their data directory, and reading addresses. */

import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { LlmnodeError } from "../../protocol/errors.ts";
import { type HostPort, parseHostPort } from "../../util/host-port.ts";
import { createLog, type Log } from "../../util/log.ts";
import type { Options, Environment } from "../base/options.ts";
import type { Invocation } from "../base/spec.ts";
import type { Terminal } from "../base/terminal.ts";

export const DEFAULT_HTTP_PORT = 8092;
export const DEFAULT_SESSION_PORT = 8093;

/** The log that `--log-format`, `--log-level`, `--no-color` and `--debug` ask for, on stderr. */
export function daemonLog({ options, warnings }: Invocation, terminal: Terminal): Log {
  const level = options.choice("log-level", ["debug", "info", "warn", "error"]);
  const verbose = options.isOn("debug") && !options.isGiven("log-level");
  const log = createLog({
    format: options.choice("log-format", ["auto", "text", "logfmt", "json"]),
    level: verbose ? "debug" : level,
    isTty: terminal.errIsTty,
    color: terminal.errIsTty && terminal.color && !options.isOn("no-color"),
    write: (line) => terminal.err.write(line),
  });
  for (const warning of warnings) log.warn(warning);
  return log;
}

/** Whether the log is read by a person: then a banner says more than one of its lines. */
export function isForPerson(options: Options, terminal: Terminal): boolean {
  const format = options.choice("log-format", ["auto", "text", "logfmt", "json"]);
  return format === "text" || (format === "auto" && terminal.errIsTty);
}

/**
 * `--data-dir`, else `$XDG_STATE_HOME/llmnode`, else `~/.local/state/llmnode`; always absolute.
 * A relative XDG_STATE_HOME is ignored, as the XDG base directory specification says.
 */
export function dataDirectory(options: Options, env: Environment): string {
  const found = stateDirectory(options.text("data-dir"), env);
  if (found !== null) return found;
  throw new LlmnodeError("data_dir_unusable", "there is no home directory to keep state in", {
    hints: ["name a place:   --data-dir <dir>   (or LLMNODE_DATA=<dir>)"],
  });
}

/** As `dataDirectory`, for commands that have no such option: `given` or null; null without a home. */
export function stateDirectory(given: string | null, env: Environment): string | null {
  if (given !== null) return resolve(given);
  const state = env["XDG_STATE_HOME"];
  if (state !== undefined && isAbsolute(state)) return join(state, "llmnode");
  const home = env["HOME"] || homedir();
  return isAbsolute(home) ? join(home, ".local", "state", "llmnode") : null;
}

/** An address option; `fallback` fills in what is left out. Throws `usage`. */
export function addressOption(options: Options, flag: string, fallback: HostPort): HostPort {
  const text = options.text(flag);
  if (text === null) return fallback;
  const address = parseHostPort(text, fallback);
  if (address === null) throw options.invalid(flag, "host:port, such as 0.0.0.0:8092");
  return address;
}

/** An http(s) origin such as `http://127.0.0.1:11434`; a bare `host:port` means http. */
export function originOption(options: Options, flag: string): string | null {
  const text = options.text(flag);
  if (text === null) return null;
  const url = URL.parse(/^https?:\/\//i.test(text) ? text : `http://${text}`);
  const isOrigin =
    url !== null &&
    url.hostname !== "" &&
    `${url.pathname}${url.search}${url.hash}${url.username}` === "/";
  if (!isOrigin) throw options.invalid(flag, "a URL without a path, such as http://10.0.0.7:8080");
  return url.origin;
}
