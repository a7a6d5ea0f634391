/** A worker's engine through its supervisors: one after the other where the head asks for a restart. */

import path from "node:path";
import { ENGINE_LOG, type LogIndex, openLogIndex } from "../engine/log/log-index.ts";
import type { EngineStatus } from "../engine/status.ts";
import type { RestartMode } from "../engine/spec.ts";
import type { FinalExit } from "../engine/supervise/loop.ts";
import type { SupervisorOptions } from "../engine/supervise/prepare.ts";
import { startSupervisor, type Supervisor } from "../engine/supervise/supervisor.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { cleanLine } from "../util/text.ts";
import type { GpuProcess } from "../telemetry/gpu.ts";
import { listGpus } from "../telemetry/known-gpus.ts";
import type { WorkerOptions, WorkerSettings } from "./options.ts";

export interface WorkerEngineOptions {
  worker: WorkerOptions;
  settings: WorkerSettings;
  /** The slot's folder. */
  dir: string;
  engineId: string;
  workerRun: string;
  onChange: (status: EngineStatus) => void;
  /** What runs on this machine's GPUs; null: not known. */
  computeProcesses: () => Promise<GpuProcess[] | null>;
}

type OfSupervisor = "status" | "load" | "vitalSigns" | "generate" | "markStalled" | "continues";

export interface WorkerEngine extends Pick<Supervisor, OfSupervisor>, AsyncDisposable {
  /** What requests show the engine as bearer. A secret. */
  readonly apiKey: string | null;
  /** Of what the engine prints; null: it was started elsewhere. */
  readonly logIndex: LogIndex | null;
  /** Settles when the engine has ended for good: null if it was done, else with the reason. */
  readonly ended: Promise<LlmnodeError | null>;
  /** Stops the engine and starts it again; while that goes on, a second call waits for the same. */
  restart(reason: string): Promise<void>;
  /** Ends the engine, for good. */
  stop(force?: AbortSignal): Promise<void>;
  /** Lets go of the engine, which runs on. */
  release(): Promise<void>;
}

/** Throws what `startSupervisor` throws; then nothing is left running. */
export async function startWorkerEngine(options: WorkerEngineOptions): Promise<WorkerEngine> {
  const { dir, worker } = options;
  const { log, engine } = worker;
  const ended = Promise.withResolvers<LlmnodeError | null>();
  const shared = supervisorOptions(options);
  const logIndex = "argv" in engine ? openLogIndex(path.join(dir, ENGINE_LOG), { log }) : null;
  const supervised = { ...shared, ...(logIndex && { logIndex }) };
  let isLeaving = false;
  let restarting: Promise<void> | null = null;

  const start = async (): Promise<Supervisor> => {
    const started = await startSupervisor(supervised);
    void started.final.then((exit) => {
      if (!isLeaving) ended.resolve(explainFinal(exit, engine.restart));
    });
    return started;
  };
  let supervisor = await start();
  // A service gets its clients' own credentials.
  const apiKey = (engine.service ?? null) === null ? supervisor.apiKey : null;
  const { continues } = supervisor;

  const restartNow = async (reason: string) => {
    log.info("restarting the engine", { reason });
    await supervisor.stop();
    if (isLeaving) return;
    try {
      supervisor = await start();
    } catch (error) {
      log.error("the engine cannot be started again", { error: messageOf(error) });
    }
  };

  return {
    status: () => supervisor.status(),
    load: () => supervisor.load(),
    vitalSigns: () => supervisor.vitalSigns(),
    generate: (timeoutMs, signal) => supervisor.generate(timeoutMs, signal),
    markStalled: (reason) => supervisor.markStalled(reason),
    apiKey,
    logIndex,
    continues,
    ended: ended.promise,
    restart(reason) {
      restarting ??= restartNow(reason).finally(() => {
        restarting = null;
      });
      return restarting;
    },
    async stop(force) {
      isLeaving = true;
      const how = force ? { force } : {};
      // A restart that is under way ends sooner by this; what it has started by then ends as well.
      await supervisor.stop(how);
      await restarting;
      await supervisor.stop(how);
    },
    async release() {
      isLeaving = true;
      await restarting;
      await supervisor.release();
    },
    async [Symbol.asyncDispose]() {
      isLeaving = true;
      await supervisor[Symbol.asyncDispose]();
    },
  };
}

function supervisorOptions({
  worker,
  settings,
  onChange,
  ...rest
}: WorkerEngineOptions): SupervisorOptions {
  const { engine, log, printLine } = worker;
  const logEngine = createEngineLog(log);
  return {
    ...rest,
    engine,
    log,
    onChange(status) {
      logEngine(status);
      onChange(status);
    },
    onLine: printLine,
    settings: settings.supervisor,
    listGpus,
  };
}

function explainFinal(
  { isDone, reason }: FinalExit,
  restart: RestartMode = "always",
): LlmnodeError | null {
  if (isDone) return null;
  const message = `the engine ended: ${reason}`;
  const hints = [`it is not started again, as --restart ${restart} says`];
  return new LlmnodeError("join_failed", message, { hints });
}

/** Logs once what the engine serves and what is wrong with it, for each change of the status; progress in percent is in the engine's own lines. */
function createEngineLog(log: Log): (status: EngineStatus) => void {
  let last = "";
  return (status) => {
    const { state, run, kind, url, reason, models } = status;
    const key = JSON.stringify([state, run, reason, models]);
    if (key === last) return;
    last = key;
    if (state === "ready") {
      const names = models.map((model) => model.id).join(", ");
      log.info("engine ready", { kind, url: url ?? undefined, models: cleanLine(names, 500) });
    } else if (state === "unhealthy" || state === "failed") {
      log.warn(`engine ${state}`, { reason: reason ?? undefined });
    }
  };
}
