/** Puts together what keeps one engine: from what its user says, its command, and the defaults. */

import path from "node:path";
import { unknownReport } from "../../protocol/engine-report.ts";
import { readEngineArgv, refuseWithoutHttp } from "../argv/argv.ts";
import { continueAttached } from "./attach-record.ts";
import { parseAttachUrl, watchAttached } from "./attached.ts";
import { type EngineKeeper, keepChild, type StopSignals } from "./loop.ts";
import { launcherFor } from "../docker/launcher.ts";
import { type GpuPin, pinGpus } from "../argv/gpu-pin.ts";
import { printableModels } from "../presets/model-list.ts";
import { ENGINE_LOG, openLogIndex } from "../log/log-index.ts";
import { isOnPath } from "../process/process.ts";
import { hashCommand, openRecord } from "../process/record.ts";
import { createReport, type EngineFacts, type StatusReport } from "../report.ts";
import { SUPERVISOR_DEFAULTS } from "./settings.ts";
import type { Environment } from "../shell-words.ts";
import type { SupervisorOptions } from "./supervisor.ts";
import type { Overrides } from "./watch.ts";

const UNKNOWN: EngineFacts = {
  ...unknownReport(0),
  run: null,
  kind: "generic",
  failure: null,
  url: null,
  models: [],
};

export interface Kept extends EngineKeeper {
  report: StatusReport;
  /** The key that the engine wants. A secret. */
  apiKey: string | null;
}

/** Throws what `startSupervisor` throws; then nothing runs. */
export function startKeeper(
  options: SupervisorOptions,
  signals: StopSignals,
  flowAgeMs: () => number | null,
): Promise<Kept> {
  const { target } = options;
  return "attach" in target
    ? keepAttached(target.attach, { options, flowAgeMs }, signals)
    : keepCommand(target.argv, { options, flowAgeMs }, signals);
}

interface Told {
  options: SupervisorOptions;
  flowAgeMs: () => number | null;
}

async function keepAttached(
  at: string,
  { options, flowAgeMs }: Told,
  signals: StopSignals,
): Promise<Kept> {
  const { dir, workerRun = crypto.randomUUID(), log } = options;
  const settings = { ...SUPERVISOR_DEFAULTS, ...options.settings };
  const target = parseAttachUrl(at);
  const { uuids: gpus } = await pin(options, null, null);
  const { run, continues, forget } = continueAttached({ dir, url: target.url, workerRun }, log);
  const { port, url } = target;
  const facts = { ...UNKNOWN, run, port, url, gpus, service: options.service ?? null };
  const report = createReport(facts, options);
  const over = AbortSignal.any([signals.stop, signals.release]);
  const told = toldBy(options);
  const done = watchAttached({ target, settings, report, log, told, flowAgeMs }, over);
  signals.stop.addEventListener("abort", forget, { once: true });
  return { report, apiKey: null, done, continues, final: NEVER, run: () => null };
}

async function keepCommand(
  words: readonly string[],
  { options, flowAgeMs }: Told,
  signals: StopSignals,
): Promise<Kept> {
  const { engineId, port, dir, log } = options;
  const settings = { ...SUPERVISOR_DEFAULTS, ...options.settings };
  const env = options.env ?? process.env;
  const argv = await withSelfCommand(words, env, options.selfCommand);
  const cwd = options.cwd ?? process.cwd();
  const hints = readEngineArgv(words, env, { cwd });
  refuseWithoutHttp(hints, port);
  const pinned = await pin(options, words, hints.gpusWanted);
  const told = { ...toldBy(options), hints };
  const facts = {
    ...UNKNOWN,
    kind: hints.kind,
    expectedModels: told.isService ? [] : printableModels(hints.models),
    service: options.service ?? null,
    maxInFlight: options.maxInFlight ?? hints.maxInFlight,
    gpusWanted: hints.gpusWanted,
    gpus: pinned.uuids,
  };
  const report = createReport(facts, options);
  const command = { argv, env: { ...env, ...pinned.env }, cwd };
  // As it was typed: where this program itself stands in for a word is no difference.
  const typed = { ...command, argv: words };
  const { container } = settings;
  const keeper = await keepChild(
    {
      command,
      commandHash: hashCommand(typed, { port, inherited: process.env }),
      launcher: launcherFor({ argv, env, engineId, hints, settings: container }),
      hints,
      told,
      port,
      engineId,
      workerRun: options.workerRun ?? crypto.randomUUID(),
      dir,
      logIndex: options.logIndex ?? openLogIndex(path.join(dir, ENGINE_LOG), { log }),
      record: openRecord(dir, log),
      restart: options.restart ?? "always",
      adopt: options.adopt ?? true,
      settings,
      report,
      log,
      onLine: options.onLine ?? (() => undefined),
      flowAgeMs,
      computeProcesses: options.computeProcesses ?? (() => Promise.resolve(null)),
    },
    signals,
  );
  return { report, apiKey: hints.apiKey, ...keeper };
}

function pin(
  { gpus = null, listGpus, env = process.env, log }: SupervisorOptions,
  argv: readonly string[] | null,
  wanted: number | null,
): Promise<GpuPin> {
  const list = listGpus ?? (() => Promise.resolve(null));
  return pinGpus({ gpus, argv, env, wanted, listGpus: list, log });
}

function toldBy({ maxInFlight, healthPath, service }: SupervisorOptions): Overrides {
  return {
    maxInFlight: maxInFlight ?? null,
    healthPath: healthPath ?? null,
    isService: (service ?? null) !== null,
  };
}

/** An engine that is only watched does not end. */
const NEVER: EngineKeeper["final"] = new Promise(() => undefined);

async function withSelfCommand(
  argv: readonly string[],
  env: Environment,
  selfCommand: readonly string[] | undefined,
): Promise<readonly string[]> {
  if (argv[0] !== "llmnode" || !selfCommand || (await isOnPath("llmnode", env))) return argv;
  return [...selfCommand, ...argv.slice(1)];
}
