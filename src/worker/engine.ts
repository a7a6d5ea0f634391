/** A worker's engine through its supervisors: one after the other where the head asks for a restart. */

import path from "node:path";
import { readEngineArgv } from "../engine/argv/argv.ts";
import type { Generation } from "../engine/ask/generation-probe.ts";
import type { LoadSample } from "../engine/ask/load.ts";
import { ENGINE_LOG, type LogIndex, openLogIndex } from "../engine/log/log-index.ts";
import type { EngineStatus } from "../engine/status.ts";
import {
  startSupervisor,
  type FinalExit,
  type Supervisor,
  type SupervisorSettings,
} from "../engine/supervise/supervisor.ts";
import type { VitalSigns } from "../engine/supervise/vital-signs.ts";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import type { GpuProcess } from "../telemetry/gpu.ts";
import { listGpus } from "../telemetry/known-gpus.ts";
import { createEngineLog } from "./engine-log.ts";
import type { WorkerOptions, WorkerSettings } from "./options.ts";

export interface WorkerEngineOptions {
  worker: WorkerOptions;
  settings: WorkerSettings;
  /** The slot's folder. */
  dir: string;
  engineId: string;
  /** This life of the worker. */
  workerRun: string;
  onChange: (status: EngineStatus) => void;
  /** What runs on this machine's GPUs; null: nobody can tell. */
  computeProcesses: () => Promise<GpuProcess[] | null>;
}

export interface WorkerEngine extends AsyncDisposable {
  status(): EngineStatus;
  /** What the engine says about its load; null: not known. */
  load(): LoadSample | null;
  /** What its processes show; null: it does not run, or others run it. */
  vitalSigns(): Promise<VitalSigns | null>;
  /** Asks it for one token; null: it does not run. Throws only if `signal` is aborted. */
  generate(timeoutMs: number, signal: AbortSignal): Promise<Generation | null>;
  /** Gives it up as stalled, with the reason: it is ended at once and started again. */
  markStalled(reason: string): void;
  /** What the engine wants as bearer. A secret. */
  readonly apiKey: string | null;
  /** Of what the engine prints; null: somebody else has started it. */
  readonly logIndex: LogIndex | null;
  /** The life of the worker from which the engine was taken over; null: started by this one. */
  readonly continues: string | null;
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
  const { worker } = options;
  const { log, engine, env } = worker;
  const cwd = worker.cwd ?? process.cwd();
  // A service gets its clients' own credentials.
  const hasKey = "argv" in engine && (worker.service ?? null) === null;
  const apiKey = hasKey ? readEngineArgv(engine.argv, env, { cwd }).apiKey : null;
  const ended = Promise.withResolvers<LlmnodeError | null>();
  const logEngine = createEngineLog(log);
  const logIndex =
    "argv" in engine ? openLogIndex(path.join(options.dir, ENGINE_LOG), { log }) : null;
  let isLeaving = false;
  let restarting: Promise<void> | null = null;

  const start = async (): Promise<Supervisor> => {
    const started = await startSupervisor({
      target: engine,
      port: worker.port,
      engineId: options.engineId,
      workerRun: options.workerRun,
      dir: options.dir,
      ...(logIndex && { logIndex }),
      env,
      cwd,
      log,
      onChange(status) {
        logEngine(status);
        options.onChange(status);
      },
      onLine: worker.printLine,
      settings: supervisorSettings(options),
      healthPath: worker.healthPath ?? null,
      service: worker.service ?? null,
      maxInFlight: worker.maxInFlight ?? null,
      selfCommand: worker.selfCommand,
      restart: worker.restart ?? "always",
      adopt: worker.adopt ?? true,
      gpus: worker.gpus ?? null,
      listGpus: () => listGpus({ path: env["PATH"] }),
      computeProcesses: options.computeProcesses,
    });
    void started.final.then((exit) => {
      if (!isLeaving) ended.resolve(explainFinal(exit, worker.restart));
    });
    return started;
  };
  let supervisor = await start();
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

function supervisorSettings({
  settings,
  worker,
}: WorkerEngineOptions): Partial<SupervisorSettings> {
  const { startTimeoutMs = null } = worker;
  return { ...settings.supervisor, ...(startTimeoutMs !== null && { startTimeoutMs }) };
}

function explainFinal(
  { isDone, reason }: FinalExit,
  restart: WorkerOptions["restart"],
): LlmnodeError | null {
  if (isDone) return null;
  const message = `the engine ended: ${reason}`;
  const hints = [`it is not started again, as --restart ${restart ?? "always"} says`];
  return new LlmnodeError("join_failed", message, { hints });
}
