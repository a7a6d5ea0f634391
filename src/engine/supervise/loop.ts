/** The supervisor's loop: starts the engine's program or adopts it, and restarts it when it ends. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import { formatDuration } from "../../util/units.ts";
import { describeHolders, type Holder, waitForRelease } from "../process/leftovers.ts";
import { refuseTakenPort } from "../process/network.ts";
import { bootId, readProcessNow } from "../process/proc.ts";
import { AT_ONCE, type ProcessTree } from "../process/process-tree.ts";
import type { RunRecord } from "../process/record.ts";
import { findEarlier, releaseOptions } from "./adopt.ts";
import type { PreparedEngine } from "./prepare.ts";
import { decideRestart, type EngineEnd, MAX_ENDS } from "./restart.ts";
import { runEngine, type StopSignals } from "./run-engine.ts";
import { type EngineRun, startRun } from "./run.ts";

/** The engine has ended and is not started again, as it was asked for. */
export interface FinalExit {
  /** Whether it did what it was there for. */
  isDone: boolean;
  reason: string;
}

/** What goes on with an engine until it is stopped. */
export interface SupervisorLoop {
  /** After `stop`: what could not be ended, in words. Null: nothing, released, or final. */
  readonly done: Promise<string | null>;
  /** Settles if the engine ends for good by itself; then nothing of it is left. */
  readonly final: Promise<FinalExit>;
  /** The run of the worker from which the engine was adopted; null: it was started. */
  readonly continues: string | null;
  /** What runs now; null between two runs, and for an engine that others run. */
  run(): EngineRun | null;
}

/** Throws LlmnodeError if the first start fails; then nothing runs. */
export async function startLoop(
  engine: PreparedEngine,
  signals: StopSignals,
): Promise<SupervisorLoop> {
  const final = Promise.withResolvers<FinalExit>();
  const found = await findEarlier(engine, signals.force);
  let present: EngineRun | null = null;
  const rest = {
    signals,
    onFinal: final.resolve,
    onRun: (run: EngineRun | null) => void (present = run),
  };
  const loop = { final: final.promise, run: () => present };
  if (found.type === "stuck") {
    const done = giveUp(engine, found, signals);
    return { ...loop, done, continues: null };
  }
  if (found.type === "nothing") {
    const run = await begin(engine, 0);
    return { ...loop, done: superviseRuns(engine, run, rest), continues: null };
  }
  const { run, record } = found;
  reportAdopted(engine, run, record);
  const answered = Promise.withResolvers<void>();
  const { address } = record;
  const done = superviseRuns(engine, run, { ...rest, address, onReady: answered.resolve });
  if (address !== null) {
    // It was ready a moment ago: the next status should not say that it starts.
    const over = new AbortController();
    const late = sleep(engine.settings.adoptedAnswerMs, over.signal);
    await Promise.race([answered.promise, late, done]);
    over.abort();
  }
  return { ...loop, done, continues: record.worker_run };
}

interface LoopRest {
  signals: StopSignals;
  onFinal: (exit: FinalExit) => void;
  onRun: (run: EngineRun | null) => void;
  /** Where the first run is known to answer. */
  address?: HostPort | null;
  /** Called when the first run answers as a ready engine does. */
  onReady?: () => void;
}

async function superviseRuns(
  engine: PreparedEngine,
  first: EngineRun,
  { signals, onFinal, onRun, onReady, address: known = null }: LoopRest,
): Promise<string | null> {
  const { settings, rules, log, report, record } = engine;
  const leaving = AbortSignal.any([signals.stop, signals.release]);
  const ends: EngineEnd[] = [];
  let run: EngineRun | null = first;
  let address = known;
  for (;;) {
    if (run !== null) {
      onRun(run);
      const end = await runEngine(engine, run, { signals, address, onReady });
      onRun(null);
      if (end.type === "released") return null;
      if (end.held.length > 0 && !signals.stop.aborted) {
        return giveUp(engine, { tree: run.launched.tree, holders: end.held }, signals);
      }
      if (end.held.length === 0) record.remove();
      if (signals.stop.aborted) return describeHolders(end.held);
      ends.push(end);
    }
    address = null;
    ends.splice(0, ends.length - MAX_ENDS);
    const policy = { ...settings, restart: rules.restart };
    const decision = decideRestart(ends, policy, Date.now());
    const reason = report.status().reason ?? "it ended";
    if (decision.action === "end") {
      const { isDone } = decision;
      report.dispatch(isDone ? { type: "ended", reason } : { type: "gave_up", reason });
      onFinal({ isDone, reason });
      return null;
    }
    if (decision.action === "give_up") {
      log.error("engine failed repeatedly in the same way: llmnode restart starts it again");
      report.dispatch({ type: "gave_up", reason });
      await aborted(leaving);
      return null;
    }
    log.info(`engine restarts in ${formatDuration(decision.delayMs)}`);
    await sleep(decision.delayMs, leaving);
    if (leaving.aborted) return null;
    const next = await beginAgain(engine);
    run = next instanceof LlmnodeError ? null : next;
    if (next instanceof LlmnodeError) ends.push(neverRan(next));
  }
}

async function begin(engine: PreparedEngine, restarts: number): Promise<EngineRun> {
  const { argvFacts, port, report, settings, engineId, log } = engine;
  if (port !== null) {
    const timeoutMs = settings.connectTimeoutMs;
    await refuseTakenPort(port, { host: argvFacts.host, engineId, timeoutMs });
  }
  const run = await startRun(engine);
  const { process, firstPhase } = run.launched;
  const { pid } = process;
  writeDown(engine, run, restarts);
  report.dispatch(
    { type: "spawned", ...(firstPhase && { phase: firstPhase }) },
    { run: run.id, pid, port, restarts, adopted: false },
  );
  log.info("engine started", { pid, kind: argvFacts.kind });
  return run;
}

/** The failure if it could not be started; the report then says why. */
async function beginAgain(engine: PreparedEngine): Promise<EngineRun | LlmnodeError> {
  const { report, log } = engine;
  try {
    return await begin(engine, report.status().restarts + 1);
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

/** For the next run of the worker, should this one end before the engine does. */
function writeDown(engine: PreparedEngine, run: EngineRun, restarts: number): void {
  const { pid } = run.launched.process;
  const entry = readProcessNow(pid);
  // Ended already, or no /proc: there is nothing to adopt.
  if (entry === null || bootId() === "") return;
  engine.record.write({
    schema: 1,
    engine_id: engine.engineId,
    worker_run: engine.workerRun,
    run: run.id,
    pid,
    start_time: entry.startTime,
    boot_id: bootId(),
    command_hash: engine.commandHash,
    kind: engine.argvFacts.kind,
    restarts,
    log_start: run.logStart,
    address: null,
    ending: false,
  });
}

function reportAdopted(engine: PreparedEngine, run: EngineRun, record: RunRecord): void {
  engine.record.write({ ...record, worker_run: engine.workerRun });
  const { pid } = run.launched.process;
  const port = record.address?.port ?? engine.port;
  const { restarts } = record;
  engine.report.dispatch({ type: "adopted" }, { run: run.id, pid, port, restarts, adopted: true });
}

/** Never starts again over what is left of a run; tries once more to end it when asked to stop. */
async function giveUp(
  engine: PreparedEngine,
  { tree, holders }: { tree: ProcessTree; holders: readonly Holder[] },
  { stop, release, force }: StopSignals,
): Promise<string | null> {
  const reason = describeHolders(holders) ?? "";
  engine.log.error(`engine: ${reason}`);
  engine.report.dispatch({ type: "gave_up", reason });
  await aborted(AbortSignal.any([stop, release]));
  if (!stop.aborted) return null;
  const killTimeoutMs = engine.settings.groupStopTimeoutMs;
  const processes = await tree.end({ ...AT_ONCE, killTimeoutMs });
  const last = { ...releaseOptions(engine), timeoutMs: 0, force };
  const held = await waitForRelease({ ...last, processes, seen: tree.seen(), address: null });
  if (held.length === 0) engine.record.remove();
  return describeHolders(held);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
