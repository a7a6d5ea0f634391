/** Runs one inference engine, or watches one that already runs, and reports what becomes of it. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { GONE } from "./run-engine.ts";
import type { FinalExit } from "./loop.ts";
import type { MachineGpu } from "../argv/gpu-pin.ts";
import { type Generation, generateOne } from "../ask/generation-probe.ts";
import { startKeeper } from "./prepare.ts";
import type { LogIndex } from "../log/log-index.ts";
import type { GpuHold } from "../process/leftovers.ts";
import { type LoadReader, type LoadSample, startLoadReader } from "../ask/load.ts";
import { describeStall } from "../diagnose/reasons.ts";
import type { RestartMode } from "./restart.ts";
import type { SupervisorSettings } from "./settings.ts";
import type { EngineStatus } from "../status.ts";
import { readVitalSigns, type VitalSigns } from "./vital-signs.ts";

export type { EngineState } from "../../protocol/engine-report.ts";
export type { EngineKind, EngineModel, EngineStatus } from "../status.ts";
export type { FinalExit } from "./loop.ts";
export type { RestartMode } from "./restart.ts";
export type { SupervisorSettings } from "./settings.ts";

export interface SupervisorOptions {
  /** A command to run, passed on untouched and never through a shell, or the URL of an engine. */
  target: { argv: readonly string[] } | { attach: string };
  /** The engine's port if the user named it; it beats every other source. Not for `attach`. */
  port: number | null;
  /** Marks the engine's processes (`LLMNODE_ENGINE_ID`); unique on the machine. */
  engineId: string;
  /** An existing folder of this engine alone, for its log. */
  dir: string;
  /** Of its log, where somebody else reads it too. Default: one of its own. */
  logIndex?: LogIndex;
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
  /** Requests that the engine should have at once. Default: as it, its command or its kind tells. */
  maxInFlight?: number | null;
  /**
   * The path that answers 2xx when the engine is well; with it a server that is no known engine
   * need not list models. Default: by kind.
   */
  healthPath?: string | null;
  /** The name under which it is offered as an HTTP server; its models are not asked for then. */
  service?: string | null;
  /** This life of the worker: told to the one that takes the engine over. Default: random. */
  workerRun?: string;
  /**
   * Which ends of the engine that nobody asked for are followed by a new start: "on-failure" takes
   * an exit with code 0 as final, "no" any. Default: "always".
   */
  restart?: RestartMode;
  /**
   * Whether an engine that an earlier life of this worker left running with the same command is
   * taken over. If not, it is ended before the start, like one with another command. Default: yes.
   */
  adopt?: boolean;
  /** The GPUs that the engine may use: `0,1` or UUIDs; see `pinGpus`. Default: its command says. */
  gpus?: string | null;
  /** The GPUs of this machine; null: nobody can tell. Default: that. */
  listGpus?: () => Promise<readonly MachineGpu[] | null>;
  /** What runs on this machine's GPUs, by process; null: nobody can tell. Default: that. */
  computeProcesses?: () => Promise<readonly GpuHold[] | null>;
  /** Replaces an `argv[0]` of `llmnode` that is not on the PATH. */
  selfCommand?: readonly string[];
}

export interface Supervisor extends AsyncDisposable {
  status(): EngineStatus;
  /** The leading process while it runs; null between runs and for an attached engine. */
  readonly pid: number | null;
  /** What the engine says about its load; null: not known. */
  load(): LoadSample | null;
  /** What its processes show; null between runs and for an attached engine. */
  vitalSigns(): Promise<VitalSigns | null>;
  /** Asks it for one token; null while it does not run. Throws only if `signal` is aborted. */
  generate(timeoutMs: number, signal: AbortSignal): Promise<Generation | null>;
  /**
   * Gives the present run up as stalled, with the reason: it is ended at once, and what follows is
   * what follows any end that nobody asked for. Nothing happens between runs.
   */
  markStalled(reason: string): void;
  /** The key that the engine wants, from its command or environment. A secret: never show it. */
  readonly apiKey: string | null;
  /** Settles if the engine ends for good by itself, as `restart` has it; then nothing is left. */
  readonly final: Promise<FinalExit>;
  /** The life of the worker that had the engine before, while it ran; null: it was started anew. */
  readonly continues: string | null;
  /** Lets go of the engine: it runs on, for a later supervisor to take over. */
  release(): Promise<void>;
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
  const releasing = new AbortController();
  const signals = {
    stop: stopping.signal,
    force: forcing.signal,
    release: releasing.signal,
  };
  let load: LoadReader | null = null;
  const flowAgeMs = () => load?.flowAgeMs() ?? null;
  const kept = await startKeeper(options, signals, flowAgeMs);
  const { report, apiKey, done, final, continues } = kept;
  const reader = startLoadReader({
    status: report.status,
    apiKey,
    log: options.log,
    settings: options.settings?.load ?? {},
  });
  load = reader;

  const ended = done.catch((error: unknown) => {
    const reason = `the supervision of the engine failed: ${messageOf(error)}`;
    options.log.error(reason);
    report.dispatch({ type: "gave_up", reason });
    return reason;
  });
  void ended.then(() => reader[Symbol.asyncDispose]());
  const release = async () => {
    releasing.abort();
    await ended;
  };
  const stop = async ({ force }: { force?: AbortSignal } = {}) => {
    if (force?.aborted) forcing.abort();
    force?.addEventListener("abort", () => forcing.abort(), { once: true });
    // It is somebody else's by now.
    if (releasing.signal.aborted) return void (await ended);
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
    load: reader.latest,
    async vitalSigns() {
      const run = kept.run();
      return run && readVitalSigns(run.launched, report.status().port);
    },
    async generate(timeoutMs, generating) {
      const { url, kind, models } = report.status();
      return url === null
        ? null
        : generateOne({ url, kind, models, apiKey, timeoutMs }, generating);
    },
    markStalled(reason) {
      const run = kept.run();
      run?.markStalled(describeStall(reason, { kind: report.status().kind, ...run.output() }));
    },
    get pid() {
      return report.status().pid;
    },
    final,
    continues,
    stop,
    release,
    [Symbol.asyncDispose]: () => stop(),
  };
}
