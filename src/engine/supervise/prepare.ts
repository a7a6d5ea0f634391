/** Settles what is to run before anything runs: from the spec, the command's words, the defaults. */

import path from "node:path";
import { unknownReport } from "../../protocol/engine-report.ts";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { type ArgvFacts, readEngineArgv } from "../argv/argv.ts";
import { type GpuPin, type GpuPinOptions, type ListGpus, pinGpus } from "../argv/gpu-pin.ts";
import { launcherFor } from "../docker/launcher.ts";
import { ENGINE_LOG, type LogIndex, openLogIndex } from "../log/log-index.ts";
import { printableModels } from "../presets/model-list.ts";
import type { LaunchContext, Launcher } from "../process/launch.ts";
import type { GpuHold } from "../process/leftovers.ts";
import { isOnPath } from "../process/process.ts";
import { hashCommand, openRecord, type RecordFile } from "../process/record.ts";
import { createReport, type EngineFacts, type StatusReport } from "../report.ts";
import { type CompleteRules, type EngineSpec, RULE_DEFAULTS } from "../spec.ts";
import type { EngineStatus } from "../status.ts";
import { SUPERVISOR_DEFAULTS, type SupervisorSettings } from "./settings.ts";

export interface SupervisorOptions {
  engine: EngineSpec;
  /** Marks the engine's processes (`LLMNODE_ENGINE_ID`); unique on the machine. */
  engineId: string;
  /** An existing folder of this engine alone, for its log. */
  dir: string;
  /** Of its log, where somebody else reads it too. Default: one of its own. */
  logIndex?: LogIndex;
  log: Log;
  /** Called after every change of the status, one at a time, never from inside another call. */
  onChange: (status: EngineStatus) => void;
  /** Takes each line that the engine prints, made safe to show. */
  onLine?: (line: string) => void;
  settings?: Partial<SupervisorSettings>;
  /** This run of the worker: told to the one that adopts the engine. Default: random. */
  workerRun?: string;
  /** The GPUs of this machine; null: not known. Default: that. */
  listGpus?: ListGpus;
  /** What runs on this machine's GPUs, by process; null: not known. Default: that. */
  computeProcesses?: () => Promise<readonly GpuHold[] | null>;
}

/** What every engine has that is supervised. */
export interface Supervised {
  rules: CompleteRules;
  settings: SupervisorSettings;
  report: StatusReport;
  log: Log;
  /** How long ago its tokens were last seen to flow; null: never, or not known. */
  flowAgeMs: () => number | null;
}

/** An engine that is started from a command. */
export interface PreparedEngine extends Supervised, LaunchContext {
  argvFacts: ArgvFacts;
  /** The port that the engine should take; null if only the engine itself can tell. */
  port: number | null;
  launcher: Launcher;
  workerRun: string;
  logIndex: LogIndex;
  record: RecordFile;
  onLine: (line: string) => void;
  /** What runs on this machine's GPUs; null: not known. */
  computeProcesses: () => Promise<readonly GpuHold[] | null>;
}

const UNKNOWN: EngineFacts = {
  ...unknownReport(0),
  run: null,
  kind: "generic",
  failure: null,
  url: null,
  models: [],
};

/**
 * Starts nothing yet. Throws LlmnodeError `usage` for a command that nothing can be asked of, or
 * GPUs that cannot be; `engine_not_found` and `engine_not_executable` come with the start.
 */
export async function prepareEngine(
  words: readonly string[],
  options: SupervisorOptions,
  flowAgeMs: () => number | null,
): Promise<PreparedEngine> {
  const { engineId, dir, log } = options;
  const rules = completeRules(options.engine);
  const { port, env, cwd } = rules;
  const argvFacts = readEngineArgv(words, env, { cwd });
  refuseWithoutHttp(argvFacts, port);
  const { launch, gpusWanted } = argvFacts;
  const pinned = await pin(options, rules, { launch, wanted: gpusWanted });
  // As it was typed: where this program itself stands in for a word is no difference.
  const typed = { argv: words, env: { ...env, ...pinned.env }, cwd };
  const command = { ...typed, argv: await withSelfCommand(words, rules) };
  const named = port ?? argvFacts.port;
  const supervised = supervise(options, rules, {
    kind: argvFacts.kind,
    expectedModels: rules.service === null ? printableModels(argvFacts.models) : [],
    maxInFlight: rules.maxInFlight ?? argvFacts.maxInFlight,
    gpusWanted,
    gpus: pinned.uuids,
  });
  const { settings, report } = supervised;
  return {
    ...supervised,
    flowAgeMs,
    argvFacts,
    port: named === null ? argvFacts.usualPort : named === 0 ? null : named,
    command,
    commandHash: hashCommand(typed, { port, inherited: process.env }),
    engineId,
    workerRun: options.workerRun ?? crypto.randomUUID(),
    dir,
    logIndex: options.logIndex ?? openLogIndex(path.join(dir, ENGINE_LOG), { log }),
    record: openRecord(dir, log),
    launcher: launcherFor({ argvFacts, env, engineId, settings: settings.container }),
    adoptedPollMs: settings.adoptedPollMs,
    onContainer: (container) => report.update({ container }),
    onLine: options.onLine ?? (() => undefined),
    computeProcesses: options.computeProcesses ?? (() => Promise.resolve(null)),
  };
}

/** The same for an engine that somebody else runs; `supervise` takes what is known of it. */
export async function prepareAttached(
  options: SupervisorOptions,
  flowAgeMs: () => number | null,
): Promise<{ supervise: (facts: Partial<EngineFacts>) => Supervised }> {
  const rules = completeRules(options.engine);
  const { uuids: gpus } = await pin(options, rules, { launch: null, wanted: null });
  return {
    supervise: (facts) => ({ ...supervise(options, rules, { ...facts, gpus }), flowAgeMs }),
  };
}

function completeRules(engine: EngineSpec): CompleteRules {
  const { env = process.env } = engine;
  return { ...RULE_DEFAULTS, ...engine, env, cwd: engine.cwd ?? process.cwd() };
}

function supervise(
  options: SupervisorOptions,
  rules: CompleteRules,
  facts: Partial<EngineFacts>,
): Omit<Supervised, "flowAgeMs"> {
  const { startTimeoutMs, service } = rules;
  const settings = {
    ...SUPERVISOR_DEFAULTS,
    ...options.settings,
    ...(startTimeoutMs !== null && { startTimeoutMs }),
  };
  const report = createReport({ ...UNKNOWN, service, ...facts }, options);
  return { rules, settings, report, log: options.log };
}

function pin(
  { listGpus = () => Promise.resolve(null), log }: SupervisorOptions,
  { gpus, env }: CompleteRules,
  engine: Pick<GpuPinOptions, "launch" | "wanted">,
): Promise<GpuPin> {
  return pinGpus({ gpus, env, listGpus, log, ...engine });
}

/** Unless its user names a port: that is believed. */
function refuseWithoutHttp({ noHttp }: ArgvFacts, port: number | null): void {
  if (noHttp === null || port !== null) return;
  const hints = ["join the part that serves HTTP, or give its port: --port"];
  throw new LlmnodeError("usage", `this command serves no HTTP: ${noHttp}`, { hints });
}

async function withSelfCommand(
  argv: readonly string[],
  { env, selfCommand }: CompleteRules,
): Promise<readonly string[]> {
  if (argv[0] !== "llmnode" || selfCommand.length === 0) return argv;
  return (await isOnPath("llmnode", env)) ? argv : [...selfCommand, ...argv.slice(1)];
}
