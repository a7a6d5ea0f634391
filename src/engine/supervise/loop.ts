/** Keeps an engine's program running: starts it, watches it, restarts it, and ends it for good. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import { formatDuration } from "../../util/units.ts";
import { expectedPort } from "./addresses.ts";
import type { ArgvFacts } from "../argv/argv.ts";
import { runEngine, type RunEnd } from "./run-engine.ts";
import type { Launcher } from "../process/launch.ts";
import type { LogIndex } from "../log/log-index.ts";
import {
  describeHolders,
  type GpuHold,
  type Holder,
  waitForRelease,
} from "../process/leftovers.ts";
import { refuseTakenPort } from "../process/port-check.ts";
import { bootId, readProcessNow } from "../process/proc.ts";
import type { EngineCommandLine } from "../process/process.ts";
import type { ProcessTree } from "../process/process-tree.ts";
import type { RecordFile } from "../process/record.ts";
import type { StatusReport } from "../report.ts";
import { decideRestart, MAX_ENDS, type EngineEnd, type RestartMode } from "./restart.ts";
import { startRun, type EngineRun, type RunOptions } from "./run.ts";
import type { SupervisorSettings } from "./settings.ts";
import { findEarlier, releaseOptions } from "./adopt.ts";
import type { Overrides } from "./watch.ts";

export interface ChildOptions {
  command: EngineCommandLine;
  /** See hashCommand. */
  commandHash: string;
  launcher: Launcher;
  hints: ArgvFacts;
  told: Overrides;
  /** What the user said about the port; null: nothing. */
  port: number | null;
  engineId: string;
  /** This life of the worker. */
  workerRun: string;
  dir: string;
  logIndex: LogIndex;
  record: RecordFile;
  restart: RestartMode;
  /** Whether what an earlier life of the worker left running is taken over. */
  adopt: boolean;
  settings: SupervisorSettings;
  report: StatusReport;
  log: Log;
  onLine: (line: string) => void;
  /** See WatchOptions. */
  flowAgeMs: () => number | null;
  /** What runs on this machine's GPUs; null: nobody can tell. */
  computeProcesses: () => Promise<readonly GpuHold[] | null>;
}

/** The engine has ended and is not started again, as it was asked for. */
export interface FinalExit {
  /** Whether it did what it was there for. */
  isDone: boolean;
  reason: string;
}

/** What supervises an engine until it is stopped. */
export interface EngineKeeper {
  /**
   * Settles after `stop` with what could not be ended, in words; null: nothing is left. Settles with
   * null after `release` and after a final exit.
   */
  readonly done: Promise<string | null>;
  /** Settles if the engine ends for good by itself; then nothing of it is left. */
  readonly final: Promise<FinalExit>;
  /** The life of the worker from which the engine was taken over; null: it was started. */
  readonly continues: string | null;
  /** What runs now; null between two runs, and for an engine that others run. */
  run(): EngineRun | null;
}

export interface StopSignals {
  /** End the engine, gracefully. */
  stop: AbortSignal;
  /** End it without grace. */
  force: AbortSignal;
  /** Let go of it, whatever it does. */
  release: AbortSignal;
}

/** Throws LlmnodeError if the first start fails; then nothing runs. */
export async function keepChild(
  options: ChildOptions,
  signals: StopSignals,
): Promise<EngineKeeper> {
  const final = Promise.withResolvers<FinalExit>();
  const found = await findEarlier(options, runOptionsOf(options), signals.force);
  let present: EngineRun | null = null;
  const onRun = (run: EngineRun | null) => void (present = run);
  const rest = { signals, onFinal: final.resolve, onRun };
  const keeper = { final: final.promise, run: () => present };
  if (found.type === "stuck") {
    const done = giveUp(found.tree, found.holders, { options, signals });
    return { ...keeper, done, continues: null };
  }
  if (found.type === "nothing") {
    const run = await begin(options, 0);
    return { ...keeper, done: keep(options, run, rest), continues: null };
  }
  const { run, record } = found;
  options.record.write({ ...record, worker_run: options.workerRun });
  const { pid } = run.launched.process;
  const facts = { run: run.id, pid, port: record.address?.port ?? expectedPort(options) };
  options.report.dispatch(
    { type: "adopted" },
    { ...facts, restarts: record.restarts, adopted: true },
  );
  const answered = Promise.withResolvers<void>();
  const { address } = record;
  const done = keep(options, run, { ...rest, address, onReady: answered.resolve });
  if (address !== null) {
    // It was ready a moment ago: whoever asks next should not hear that it starts.
    const over = new AbortController();
    const late = sleep(options.settings.adoptedAnswerMs, over.signal);
    await Promise.race([answered.promise, late, done]);
    over.abort();
  }
  return { ...keeper, done, continues: record.worker_run };
}

interface KeepRest {
  signals: StopSignals;
  onFinal: (exit: FinalExit) => void;
  onRun: (run: EngineRun | null) => void;
  /** Where the first run is known to answer. */
  address?: RunEnd["address"];
  /** Called when the first run answers as a ready engine does. */
  onReady?: () => void;
}

async function keep(
  options: ChildOptions,
  first: EngineRun,
  { signals, onFinal, onRun, onReady, address: known = null }: KeepRest,
): Promise<string | null> {
  const { settings, log, report } = options;
  const leaving = AbortSignal.any([signals.stop, signals.release]);
  const ends: EngineEnd[] = [];
  let run: EngineRun | null = first;
  let address = known;
  for (;;) {
    if (run !== null) {
      onRun(run);
      const end: RunEnd = await runEngine(run, { ...options, address, onReady }, signals);
      onRun(null);
      if (end.type === "released") return null;
      if (end.held.length > 0 && !signals.stop.aborted) {
        return giveUp(run.launched.tree, end.held, { options, signals });
      }
      if (end.held.length === 0) options.record.remove();
      if (signals.stop.aborted) return describeHolders(end.held);
      ends.push(end);
    }
    address = null;
    ends.splice(0, ends.length - MAX_ENDS);
    const decision = decideRestart(ends, { ...settings, restart: options.restart }, Date.now());
    const reason = report.status().reason ?? "it ended";
    if (decision.action === "end") {
      const { isDone } = decision;
      report.dispatch(isDone ? { type: "ended", reason } : { type: "gave_up", reason });
      onFinal({ isDone, reason });
      return null;
    }
    if (decision.action === "give_up") {
      log.error("engine failed the same way again and again: it is started again when asked");
      report.dispatch({ type: "gave_up", reason });
      await aborted(leaving);
      return null;
    }
    log.info(`engine restarts in ${formatDuration(decision.delayMs)}`);
    await sleep(decision.delayMs, leaving);
    if (leaving.aborted) return null;
    const again = await beginAgain(options);
    run = again instanceof LlmnodeError ? null : again;
    if (again instanceof LlmnodeError) ends.push(neverRan(again));
  }
}

async function begin(options: ChildOptions, restarts: number): Promise<EngineRun> {
  const { hints, report, settings, engineId, log } = options;
  const port = expectedPort(options);
  if (port !== null) {
    const timeoutMs = settings.connectTimeoutMs;
    await refuseTakenPort(port, { host: hints.host, engineId, timeoutMs });
  }
  const run = await startRun(runOptionsOf(options));
  const { process, firstPhase } = run.launched;
  const { pid } = process;
  writeDown(options, run, restarts);
  report.dispatch(
    { type: "spawned", ...(firstPhase && { phase: firstPhase }) },
    { run: run.id, pid, port, restarts, adopted: false },
  );
  log.info("engine started", { pid, kind: hints.kind });
  return run;
}

/** The failure if it could not be started; the report then says why. */
async function beginAgain(options: ChildOptions): Promise<EngineRun | LlmnodeError> {
  const { report, log } = options;
  try {
    return await begin(options, report.status().restarts + 1);
  } catch (error) {
    if (!(error instanceof LlmnodeError)) throw error;
    const hint = error.hints[0] ?? null;
    report.dispatch({ type: "crashed", reason: error.message }, { hint, evidence: [] });
    log.warn(`engine not started: ${error.message}`, { hint: hint ?? undefined });
    return error;
  }
}

function neverRan({ code }: LlmnodeError): EngineEnd {
  // A port may become free; a program, a folder or a flag does not change by itself.
  const isDeterministic = code !== "port_in_use";
  return { readyMs: 0, endedAtMs: Date.now(), code: null, isDeterministic };
}

/** For the next life of the worker, should this one end before the engine does. */
function writeDown(options: ChildOptions, run: EngineRun, restarts: number): void {
  const { pid } = run.launched.process;
  const entry = readProcessNow(pid);
  // Ended already, or no /proc: there is nothing to take over.
  if (entry === null || bootId() === "") return;
  options.record.write({
    schema: 1,
    engine_id: options.engineId,
    worker_run: options.workerRun,
    run: run.id,
    pid,
    start_time: entry.startTime,
    boot_id: bootId(),
    command_hash: options.commandHash,
    kind: options.hints.kind,
    restarts,
    log_start: run.logStart,
    address: null,
    ending: false,
  });
}

function runOptionsOf(options: ChildOptions): RunOptions {
  const { report } = options;
  return {
    ...options,
    onProgress: (progress) => report.dispatch({ type: "progressed", progress }),
    onContainer: (container) => report.update({ container }),
  };
}

/** Never starts again over what is left of a run; tries once more to end it when asked to stop. */
async function giveUp(
  tree: ProcessTree,
  holders: readonly Holder[],
  { options, signals }: { options: ChildOptions; signals: StopSignals },
): Promise<string | null> {
  const reason = describeHolders(holders) ?? "";
  options.log.error(`engine: ${reason}`);
  options.report.dispatch({ type: "gave_up", reason });
  await aborted(AbortSignal.any([signals.stop, signals.release]));
  if (!signals.stop.aborted) return null;
  const killTimeoutMs = options.settings.groupStopTimeoutMs;
  const quick = { stopTimeoutMs: 0, interruptTimeoutMs: 0, groupStopTimeoutMs: 0, killTimeoutMs };
  const processes = await tree.end(quick);
  const last = { ...releaseOptions(options), timeoutMs: 0, force: signals.force };
  const held = await waitForRelease({ ...last, processes, seen: tree.seen(), address: null });
  if (held.length === 0) options.record.remove();
  return describeHolders(held);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
