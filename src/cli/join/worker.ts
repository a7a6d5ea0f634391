/** What a command line and a configuration file say about a worker. */

import { usage } from "../base/messages.ts";
import { resolve } from "node:path";
import type { EngineRules, EngineTarget } from "../../engine/spec.ts";
import { ALL_MODELS, isServiceName } from "../../protocol/replica-request.ts";
import { parseHostPort } from "../../util/host-port.ts";
import { cleanLine } from "../../util/text.ts";
import type { WorkerOptions } from "../../worker/options.ts";
import { DEFAULT_SESSION_PORT, originOption } from "../daemon/daemon.ts";
import type { Options } from "../base/options.ts";
import type { Invocation } from "../base/spec.ts";
import { parseUntil, UNTIL_FORMS } from "./until.ts";

/** Options about an engine that this worker starts itself. */
const OF_OWN_ENGINE = [
  "port",
  "start-timeout",
  "restart",
  "stall-restart",
  "env",
  "env-file",
  "cwd",
] as const;

type Wanted = Omit<
  WorkerOptions,
  "joinToken" | "viaProxy" | "dataDir" | "version" | "log" | "printLine"
>;

/** Throws `usage` for the first thing that cannot be. */
export function readWorker({ words, rest, isRestFromFile, options }: Invocation): Wanted {
  const word = words[0] ?? "";
  const shown = cleanLine(word, 200);
  const head = parseHostPort(word, { port: DEFAULT_SESSION_PORT });
  if (head === null || head.port === 0) {
    throw usage(`join: "${cleanLine(word, 80)}" is not an address: host, host:port or [v6]:port`);
  }
  const target = readEngine(shown, { rest, isRestFromFile, options });
  if ("attach" in target) refuseOwnEngineOptions(options);
  const drainTimeoutMs = options.durationMs("drain-timeout");
  return {
    head,
    insecure: options.isOn("insecure"),
    name: readName(options),
    labels: readLabels(options),
    engine: { ...target, ...readRules(options) },
    data: options.choice("transport", ["auto", "direct", "lane"]),
    advertise: originOption(options, "advertise"),
    stallRestart: options.choice("stall-restart", ["auto", "on", "off"]),
    adoptRunning: options.isOn("adopt-running"),
    until: readUntil(options),
    ...(drainTimeoutMs !== null && { settings: { drainTimeoutMs } }),
  };
}

function readRules(options: Options): EngineRules {
  const cwd = options.text("cwd");
  return {
    service: readService(options),
    port: options.integer("port", { min: 1, max: 65_535 }),
    healthPath: readHealthPath(options),
    startTimeoutMs: options.durationMs("start-timeout"),
    restart: options.choice("restart", ["always", "on-failure", "no"]),
    adopt: !options.isOn("no-adopt"),
    gpus: options.text("gpus"),
    maxInFlight: options.integer("max-in-flight", { min: 1, max: 100_000 }),
    cwd: cwd === null ? null : resolve(cwd),
  };
}

interface EngineWords extends Pick<Invocation, "rest" | "isRestFromFile" | "options"> {}

/** What is typed wins over what a file says, also where one is a command and the other a URL. */
function readEngine(head: string, { rest, isRestFromFile, options }: EngineWords): EngineTarget {
  const attach = originOption(options, "attach");
  const isAttachFromFile = options.from("attach") === "file";
  if (attach !== null && (rest === null || (isRestFromFile && !isAttachFromFile))) {
    return { attach };
  }
  if (attach !== null && isRestFromFile === isAttachFromFile) {
    throw usage(
      isRestFromFile
        ? `either ${options.named("attach")} or command, not both`
        : `either ${options.named("attach")} or an engine command after "--", not both`,
    );
  }
  if (rest !== null && rest[0] !== undefined && rest[0] !== "") return { argv: [...rest] };
  throw usage(
    rest === null ? "join needs an engine" : 'join needs an engine command after "--"',
    `run one:                  llmnode join ${head} -- vllm serve Qwen/Qwen3-8B --port 8080`,
    `use one that runs:        llmnode join ${head} --attach http://127.0.0.1:11434`,
    `try it without a GPU:     llmnode join ${head} -- llmnode sim --model demo --port 0`,
  );
}

function refuseOwnEngineOptions(options: Options): void {
  const given = OF_OWN_ENGINE.find((flag) => options.isGiven(flag));
  if (given === undefined) return;
  const attach = options.named("attach");
  const why = given === "port" ? "the port is in the URL" : "that engine is started by others";
  throw usage(`${options.named(given)} and ${attach} exclude each other: ${why}`);
}

function readName(options: Options): string | null {
  const name = options.text("name");
  // Names become file names on the worker and words of commands, tables and labels elsewhere.
  if (name === null || /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return name;
  throw options.invalid("name", "at most 63 letters, digits, dots, dashes and underscores");
}

function readLabels(options: Options): Record<string, string> {
  const pairs = options.each("label").map(({ text, source }): [string, string] => {
    const match = /^([A-Za-z0-9][A-Za-z0-9._/-]{0,62})=([A-Za-z0-9._:/@+-]{0,63})$/.exec(text);
    if (match) return [match[1] ?? "", match[2] ?? ""];
    const key = /^[^=]{1,63}=/.exec(text);
    if (key === null) throw usage(`${source} needs key=value, not "${cleanLine(text, 80)}"`);
    const needed = "of letters, digits and . _ - / with at most 63 of each";
    throw usage(`${source} needs a key and a value ${needed}, not "${cleanLine(text, 80)}"`);
  });
  return Object.fromEntries(pairs);
}

function readService(options: Options): string | null {
  const name = options.text("service");
  if (name === null) return null;
  if (isServiceName(name)) return name;
  if (name === ALL_MODELS)
    throw usage(`${options.named("service")}: "llm" is the name of all models`);
  throw options.invalid("service", "at most 63 small letters, digits and dashes");
}

function readHealthPath(options: Options): string | null {
  const path = options.text("health-path");
  if (path === null || /^\/(?!\/)[\x21-\x7e]{0,500}$/.test(path) || path === "/") return path;
  throw options.invalid("health-path", "a path such as /healthz");
}

function readUntil(options: Options): number | null {
  const text = options.text("until");
  if (text === null) return null;
  const now = Date.now();
  const until = parseUntil(text, now);
  if (until === null) throw options.invalid("until", UNTIL_FORMS);
  if (until > now) return until;
  throw usage(`${options.named("until")} is in the past: ${new Date(until).toISOString()}`);
}
