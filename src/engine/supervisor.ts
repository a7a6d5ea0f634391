/** Runs one inference engine, or watches one that already runs, and reports what becomes of it. */

import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { readEngineArgv } from "./argv.ts";
import { parseAttachUrl, watchAttached } from "./attached.ts";
import { GONE, keepChild, type StopSignals } from "./child.ts";
import { printableModels } from "./presets/model-list.ts";
import { isOnPath } from "./process.ts";
import { createReport, type EngineFacts, type StatusReport } from "./report.ts";
import { SUPERVISOR_DEFAULTS, type SupervisorSettings } from "./settings.ts";
import type { Environment } from "./shell-words.ts";
import type { EngineStatus } from "./status.ts";

export type { EngineKind, EngineModel, EngineState, EngineStatus } from "./status.ts";
export type { SupervisorSettings } from "./settings.ts";

const UNKNOWN: EngineFacts = {
  kind: "generic",
  run: null,
  pid: null,
  port: null,
  url: null,
  loopbackOnly: null,
  restarts: 0,
  models: [],
  expectedModels: [],
};

export interface SupervisorOptions {
  /** A command to run, passed on untouched and never through a shell, or the URL of an engine. */
  target: { argv: readonly string[] } | { attach: string };
  /** The engine's port if the user named it; it beats every other source. Not for `attach`. */
  port: number | null;
  /** Marks the engine's processes (`LLMNODE_ENGINE_ID`); unique on the machine. */
  engineId: string;
  /** An existing folder of this engine alone, for its log. */
  dir: string;
  /** The environment to start from. Default: this process's own. */
  env?: Record<string, string | undefined>;
  /** The engine's working directory. Default: this process's own. */
  cwd?: string;
  log: Log;
  /** Called after every change of the status, one at a time, never from inside another call. */
  onChange: (status: EngineStatus) => void;
  /** Takes each line that the engine prints, made safe to show. */
  onLine?: (line: string) => void;
  settings?: Partial<SupervisorSettings>;
  /** Replaces an `argv[0]` of `llmnode` that is not on the PATH. */
  selfCommand?: readonly string[];
}

export interface Supervisor extends AsyncDisposable {
  status(): EngineStatus;
  /** The leading process while it runs; null between runs and for an attached engine. */
  readonly pid: number | null;
  /** The key that the engine wants, from its command or environment. A secret: never show it. */
  readonly apiKey: string | null;
  /**
   * Ends the engine and everything that it started, gracefully at first; `force` skips to the end.
   * An attached engine is left alone. Safe to call again: later calls wait for the same end.
   */
  stop(options?: { force?: AbortSignal }): Promise<void>;
}

/**
 * Starts the engine and watches it until `stop`. `signal` ends it like `stop` does.
 * Throws LlmnodeError: `engine_not_found`, `engine_not_executable`, `port_in_use`, `usage` (a bad
 * address, command or working directory), `data_dir_unusable`, `shutting_down` (`signal` was
 * aborted before the start); then nothing is left running.
 */
export async function startSupervisor(
  options: SupervisorOptions,
  signal?: AbortSignal,
): Promise<Supervisor> {
  if (signal?.aborted) throw new LlmnodeError("shutting_down", "the engine was not started");
  const stopping = new AbortController();
  const forcing = new AbortController();
  const signals = { stop: stopping.signal, force: forcing.signal };
  const { report, apiKey, done } = await startKeeper(options, signals);

  const ended = done.catch((error: unknown) => {
    const reason = `the supervision of the engine failed: ${messageOf(error)}`;
    options.log.error(reason);
    report.dispatch({ type: "gave_up", reason });
    return reason;
  });
  const stop = async ({ force }: { force?: AbortSignal } = {}) => {
    if (force?.aborted) forcing.abort();
    force?.addEventListener("abort", () => forcing.abort(), { once: true });
    report.dispatch({ type: "stop_asked" });
    stopping.abort();
    const reason = await ended;
    report.dispatch({ type: "ended", reason }, GONE);
  };
  signal?.addEventListener("abort", () => void stop(), { once: true });
  if (signal?.aborted) await stop();

  return {
    apiKey,
    status: report.status,
    get pid() {
      return report.status().pid;
    },
    stop,
    [Symbol.asyncDispose]: () => stop(),
  };
}

interface Kept {
  report: StatusReport;
  apiKey: string | null;
  /** See EngineKeeper. */
  done: Promise<string | null>;
}

async function startKeeper(options: SupervisorOptions, signals: StopSignals): Promise<Kept> {
  const settings = { ...SUPERVISOR_DEFAULTS, ...options.settings };
  if ("attach" in options.target) {
    const target = parseAttachUrl(options.target.attach);
    const facts = { ...UNKNOWN, run: crypto.randomUUID(), port: target.port, url: target.url };
    const report = createReport(facts, options);
    const done = watchAttached({ target, settings, report, log: options.log }, signals.stop);
    return { report, apiKey: null, done };
  }
  const env = options.env ?? process.env;
  const argv = await withSelfCommand(options.target.argv, env, options.selfCommand);
  const hints = readEngineArgv(options.target.argv, env);
  const facts = { ...UNKNOWN, kind: hints.kind, expectedModels: printableModels(hints.models) };
  const report = createReport(facts, options);
  const command = { argv, env, cwd: options.cwd ?? process.cwd() };
  const onLine = options.onLine ?? (() => undefined);
  const { done } = await keepChild(
    { ...options, command, hints, settings, report, onLine },
    signals,
  );
  return { report, apiKey: hints.apiKey, done };
}

async function withSelfCommand(
  argv: readonly string[],
  env: Environment,
  selfCommand: readonly string[] | undefined,
): Promise<readonly string[]> {
  if (argv[0] !== "llmnode" || !selfCommand || (await isOnPath("llmnode", env))) return argv;
  return [...selfCommand, ...argv.slice(1)];
}
