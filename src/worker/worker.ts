/** The worker: takes its slot, runs or watches its engine, keeps the head informed, leaves in order. */

import type { LlmnodeError } from "../protocol/errors.ts";
import { readHostFacts } from "../telemetry/host.ts";
import { startTelemetry } from "../telemetry/sampler.ts";
import { type Conversation, startConversation } from "./conversation.ts";
import { awaitDeparture, checkDeparture } from "./departure.ts";
import { openKeyring } from "./credential.ts";
import { type WorkerEngine, startWorkerEngine } from "./engine.ts";
import { type Slot, type SlotOptions, takeSlot } from "./identity.ts";
import { createExaminer } from "./examine.ts";
import { adoptSlot } from "./adopt.ts";
import { createLogService } from "./logs.ts";
import { WORKER_DEFAULTS, type WorkerOptions, type WorkerSettings } from "./options.ts";
import { createHardwareReport, gpuPercentSince } from "./telemetry.ts";

export interface Worker extends AsyncDisposable {
  readonly name: string;
  /** Requests that the head has running here; null while that is not known. */
  readonly inFlight: number | null;
  /** Settles when the worker is to stop: with the reason; null if its engine or its time is over. */
  readonly ended: Promise<LlmnodeError | null>;
  /**
   * Leaves the routing, lets requests end, stops the engine, says goodbye. `reason` is what the head
   * shows meanwhile.
   */
  stop(options?: { force?: AbortSignal; reason?: string }): Promise<void>;
  /**
   * Ends the worker alone: its engine runs on, and so do the requests that go to it directly. The
   * next worker in this slot with the same command adopts it.
   */
  release(): Promise<void>;
}

/** The number of a worker's only engine. */
const ENGINE = "1";

/**
 * Throws what `checkDeparture`, `takeSlot`, `adoptSlot`, `openKeyring` and `startSupervisor` throw; then nothing is
 * left running.
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const settings: WorkerSettings = { ...WORKER_DEFAULTS, ...options.settings };
  checkDeparture(options, settings);
  const host = readHostFacts();
  await using stack = new AsyncDisposableStack();
  const wanted: SlotOptions = {
    dataDir: options.dataDir,
    machineId: host.machineId,
    hostname: host.hostname,
    name: options.name,
    command: "argv" in options.engine ? options.engine.argv : [options.engine.attach],
  };
  const slot = stack.use(
    options.adoptRunning === true
      ? await adoptSlot(wanted, { timeoutMs: settings.adoptTimeoutMs, log: options.log })
      : takeSlot(wanted),
  );
  const running = stack.use(await run({ options, settings, slot, host }));
  const rest = stack.move();
  let stopped: Promise<void> | null = null;
  const end = async (leave: () => Promise<void>) => {
    await leave();
    await rest.disposeAsync();
  };
  return {
    get name() {
      return running.talk.name();
    },
    get inFlight() {
      return running.talk.inFlight();
    },
    ended: running.ended,
    stop: ({ force, reason = "the worker is stopping" } = {}) =>
      (stopped ??= end(() => running.leave(reason, force))),
    release: () => (stopped ??= end(running.release)),
    async [Symbol.asyncDispose]() {
      const reason = "the worker is stopping";
      await (stopped ??= end(() => running.leave(reason, AbortSignal.abort())));
    },
  };
}

interface RunOptions {
  options: WorkerOptions;
  settings: WorkerSettings;
  slot: Slot;
  host: ReturnType<typeof readHostFacts>;
}

interface Running extends AsyncDisposable {
  talk: Conversation;
  ended: Promise<LlmnodeError | null>;
  leave(reason: string, force?: AbortSignal): Promise<void>;
  release(): Promise<void>;
}

async function run({ options, settings, slot, host }: RunOptions): Promise<Running> {
  const workerRun = crypto.randomUUID();
  await using stack = new AsyncDisposableStack();
  const engineId = `${slot.workerId}-${ENGINE}`;
  const { env = process.env } = options.engine;
  // Before the engine: without credentials nothing is started, and nothing that runs is touched.
  const keyring = openKeyring({
    dir: slot.dir,
    dataDir: options.dataDir,
    headHost: options.head.host,
    joinToken: options.joinToken,
    log: options.log,
  });
  const telemetry = stack.use(
    startTelemetry({ env, log: options.log, settings: settings.telemetry }),
  );
  let talk: Conversation | null = null;
  const engine: WorkerEngine = stack.use(
    await startWorkerEngine({
      worker: options,
      settings,
      dir: slot.dir,
      engineId,
      workerRun,
      onChange: (status) => talk?.report(status),
      computeProcesses: telemetry.computeProcesses,
    }),
  );
  const examiner = stack.use(
    createExaminer({
      ...engine,
      gpuPercent: (since) => gpuPercentSince({ telemetry, status: engine.status }, since),
      restart: options.stallRestart ?? "auto",
      settings: settings.examine,
      log: options.log,
    }),
  );
  // Disposed of before the engine: the head hears of no later change.
  const session = stack.use(
    startConversation({
      ...engine,
      worker: options,
      settings,
      slot,
      run: workerRun,
      host,
      keyring,
      engine: ENGINE,
      hardware: createHardwareReport({
        telemetry,
        status: engine.status,
        engineId,
        path: env["PATH"],
      }),
      logService: createLogService({ index: engine.logIndex, settings: settings.logs }),
      onRestart: (reason) => void engine.restart(reason),
      onExamine(order) {
        if (order.engine === ENGINE) examiner.examine(order);
      },
      failedGenerations: examiner.failedGenerations,
    }),
  );
  talk = session;
  const departure = stack.use(awaitDeparture(options, settings, () => engine.status().kind));
  const rest = stack.move();
  return {
    talk: session,
    ended: Promise.race([session.refused, engine.ended, departure.due]),
    async leave(reason, force) {
      await session.drain(reason, force);
      await engine.stop(force);
      session.leave(reason);
    },
    async release() {
      session.beAdopted();
      await engine.release();
    },
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}
