/** One run of an engine: its process, what it started, and the reading of its output. */

import { messageOf } from "../../protocol/errors.ts";
import { sleep } from "../../util/sleep.ts";
import type { Failure } from "../failure.ts";
import type { Launched } from "../process/launch.ts";
import { openEngineLog, type EngineLog } from "../log/file.ts";
import { readAddress, readProgress, type PrintedAddress } from "../diagnose/log-lines.ts";
import type { EngineExit } from "../process/process.ts";
import { explainFailure } from "../diagnose/reasons.ts";
import type { RunRecord } from "../process/record.ts";
import type { PreparedEngine } from "./prepare.ts";
import type { EngineKind } from "../status.ts";

/** Disposing of it ends the reading, not the process. */
export interface EngineRun extends AsyncDisposable {
  readonly id: string;
  readonly launched: Launched;
  /** Where its output starts in the log's file, when it was started. */
  readonly logStart: number;
  /** Where this run says that it listens. */
  printedAddress(): PrintedAddress | null;
  /** What it has printed last, and how many lines in all. */
  output(): { lines: readonly string[]; count: number };
  /** Gives it up although it runs: it is to be ended at once, for this reason. */
  markStalled(failure: Failure): void;
  /** Settles when it was given up. */
  readonly markedStalled: Promise<Failure>;
  /** Reads what the log holds by now and says why the run has ended. */
  explain(kind: EngineKind, exit: EngineExit): Promise<Failure | null>;
}

/** Lines that are searched for an explanation. */
const MAX_EVIDENCE = 200;
/** After so many readings without a line the log is read more rarely, until there is one again. */
const SILENT_READINGS = 20;
const SILENT_FACTOR = 4;

/** Starts the program. Throws what the launcher throws, and `data_dir_unusable`; then nothing runs. */
export async function startRun(engine: PreparedEngine): Promise<EngineRun> {
  await using undo = new AsyncDisposableStack();
  const { logIndex } = engine;
  const file = undo.use(await openEngineLog(logIndex, engine.settings));
  const position = await file.end();
  const id = crypto.randomUUID();
  // Before its first line, or a reader would take that for the last run's.
  logIndex.beginRun({ id, position, startedAt: Date.now() });
  undo.defer(() => logIndex.dropRun(id));
  await using output = await file.openForChild();
  const launched = await engine.launcher.start({ ...engine, logFd: output.fd });
  undo.move();
  return follow(engine, { launched, file, logStart: position - logIndex.base, id });
}

/** Null if it cannot be. What it has printed before is read once more, but not passed on. */
export async function adoptRun(
  engine: PreparedEngine,
  record: RunRecord,
): Promise<EngineRun | null> {
  await using undo = new AsyncDisposableStack();
  const { logIndex } = engine;
  const logStart = record.log_start;
  const known = logIndex.runs.find(({ id }) => id === record.run);
  const from = known?.position ?? logIndex.base + logStart;
  const file = undo.use(await openEngineLog(logIndex, engine.settings, from));
  const launched = await engine.launcher.adopt(engine, record);
  if (launched === null) return null;
  undo.move();
  return follow(engine, { launched, file, logStart, id: record.run, isOld: true });
}

interface Followed {
  launched: Launched;
  file: EngineLog;
  logStart: number;
  id: string;
  /** Whether it has printed lines already that were told then. */
  isOld?: boolean;
}

async function follow(engine: PreparedEngine, followed: Followed): Promise<EngineRun> {
  const { settings, log, report } = engine;
  const { launched, file, id, logStart } = followed;
  const ending = new AbortController();
  const evidence: string[] = [];
  let address: PrintedAddress | null = null;
  let count = 0;
  let isHistory = followed.isOld ?? false;

  const take = (lines: readonly string[]) => {
    for (const line of lines) {
      // The first address is the engine's; what it starts inside itself prints later ones.
      address ??= readAddress(line);
      const progress = launched.readProgress?.(line) ?? readProgress(line);
      if (progress) report.dispatch({ type: "progressed", progress });
      evidence.push(line);
      if (!isHistory) engine.onLine(line);
    }
    count += lines.length;
    evidence.splice(0, evidence.length - MAX_EVIDENCE);
  };
  // What it cannot find out about the engine is no reason to leave it alone.
  const logFailure = (error: unknown) => {
    log.error(`inspecting the engine: ${messageOf(error)}`);
    return null;
  };
  // One reading after the other: they share the place in the file.
  let reading: Promise<void> = Promise.resolve();
  const takeNext = (next: () => Promise<string[]>): Promise<void> => {
    reading = reading
      .then(next)
      .then(take)
      .catch((error: unknown) => log.error(`reading the engine's log: ${messageOf(error)}`));
    return reading;
  };
  const read = () => takeNext(file.read);
  const readOn = async () => {
    for (let silent = 0; ;) {
      const factor = silent < SILENT_READINGS ? 1 : SILENT_FACTOR;
      await sleep(factor * settings.logPollMs, ending.signal);
      if (ending.signal.aborted) return;
      const before = count;
      await read();
      silent = count === before ? silent + 1 : 0;
    }
  };
  if (isHistory) await read();
  isHistory = false;
  const loops = [
    readOn(),
    repeat(settings.treeMs, ending.signal, () => launched.tree.refresh().catch(logFailure)),
  ];

  const stalled = Promise.withResolvers<Failure>();
  return {
    id,
    launched,
    logStart,
    markStalled: stalled.resolve,
    markedStalled: stalled.promise,
    printedAddress: () => address,
    output: () => ({ lines: evidence, count }),
    async explain(kind, exit) {
      await read();
      const container = (await launched.explainExit?.(exit).catch(logFailure)) ?? null;
      return explainFailure({ kind, lines: evidence, exit, container });
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(loops);
      await read();
      await takeNext(file.readRest);
      await file[Symbol.asyncDispose]();
    },
  };
}

async function repeat(
  everyMs: number,
  signal: AbortSignal,
  action: () => Promise<unknown>,
): Promise<void> {
  for (;;) {
    await sleep(everyMs, signal);
    if (signal.aborted) return;
    await action();
  }
}
