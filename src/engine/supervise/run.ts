/** One run of an engine: its process, what it started, and the reading of its output. */

import { messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { sleep } from "../../util/sleep.ts";
import type { Failure } from "../failure.ts";
import type { LaunchContext, Launched, Launcher } from "../process/launch.ts";
import { openEngineLog, type EngineLog } from "../log/file.ts";
import type { LogIndex } from "../log/log-index.ts";
import { readAddress, readProgress, type PrintedAddress } from "../diagnose/log-lines.ts";
import type { EngineCommandLine, EngineExit } from "../process/process.ts";
import { explainFailure } from "../diagnose/reasons.ts";
import type { RunRecord } from "../process/record.ts";
import type { SupervisorSettings } from "./settings.ts";
import type { EngineProgress } from "../state.ts";
import type { EngineKind } from "../status.ts";

export interface RunOptions {
  command: EngineCommandLine;
  engineId: string;
  commandHash: string;
  /** How the command is started. */
  launcher: Launcher;
  /** The engine's folder. */
  dir: string;
  /** Of the file that takes its output. */
  logIndex: LogIndex;
  settings: SupervisorSettings;
  log: Log;
  onLine: (line: string) => void;
  onProgress: (progress: EngineProgress) => void;
  onContainer: (container: string) => void;
}

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

/** Starts the program. Throws what the launcher throws, and `data_dir_unusable`; then nothing runs. */
export async function startRun(options: RunOptions): Promise<EngineRun> {
  await using undo = new AsyncDisposableStack();
  const { logIndex } = options;
  const file = undo.use(await openLog(options));
  const position = await file.end();
  const id = crypto.randomUUID();
  // Before its first line, or a reader would take that for the last run's.
  logIndex.beginRun({ id, position, startedAt: Date.now() });
  undo.defer(() => logIndex.dropRun(id));
  const launched = await launch(options, file, options.launcher.start);
  undo.move();
  return follow(options, { launched, file, logStart: position - logIndex.base, id });
}

/**
 * Goes on with a run of an earlier life of this worker; null if it cannot be. What it has printed
 * before is read once more, but not passed on.
 */
export async function adoptRun(options: RunOptions, record: RunRecord): Promise<EngineRun | null> {
  await using undo = new AsyncDisposableStack();
  const { logIndex } = options;
  const logStart = record.log_start;
  const known = logIndex.runs.find(({ id }) => id === record.run);
  const file = undo.use(await openLog(options, known?.position ?? logIndex.base + logStart));
  const launched = await launch(options, file, (context) =>
    options.launcher.adopt(context, record),
  );
  if (launched === null) return null;
  undo.move();
  return follow(options, { launched, file, logStart, id: record.run, isOld: true });
}

/** Ends what earlier runs left beside marked processes; says what, in words. */
export async function removeLeftovers(options: RunOptions): Promise<string[]> {
  const { removeLeftovers: remove } = options.launcher;
  if (!remove) return [];
  await using file = await openLog(options);
  return launch(options, file, remove);
}

function openLog({ logIndex, settings }: RunOptions, from?: number): Promise<EngineLog> {
  return openEngineLog(logIndex, settings, from);
}

async function launch<T>(
  options: RunOptions,
  file: EngineLog,
  how: (context: LaunchContext) => Promise<T>,
): Promise<T> {
  const { command, engineId, commandHash, dir, log, settings } = options;
  const output = await file.openForChild();
  const { adoptedPollMs } = settings;
  const told = { command, engineId, commandHash, dir, log, adoptedPollMs };
  try {
    return await how({ ...told, logFd: output.fd, onContainer: options.onContainer });
  } finally {
    await output.close();
  }
}

interface Followed {
  launched: Launched;
  file: EngineLog;
  logStart: number;
  id: string;
  /** Whether it has printed lines already that were told then. */
  isOld?: boolean;
}

async function follow(options: RunOptions, followed: Followed): Promise<EngineRun> {
  const { settings, log } = options;
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
      if (progress) options.onProgress(progress);
      evidence.push(line);
      if (!isHistory) options.onLine(line);
    }
    count += lines.length;
    evidence.splice(0, evidence.length - MAX_EVIDENCE);
  };
  // What it cannot find out about the engine is no reason to leave it alone.
  const tell = (error: unknown) => {
    log.error(`looking at the engine: ${messageOf(error)}`);
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
  if (isHistory) await read();
  isHistory = false;
  const loops = [
    repeat(settings.logPollMs, ending.signal, read),
    repeat(settings.treeMs, ending.signal, () => launched.tree.refresh().catch(tell)),
  ];

  const markedStalled = Promise.withResolvers<Failure>();
  return {
    id,
    launched,
    logStart,
    markStalled: markedStalled.resolve,
    markedStalled: markedStalled.promise,
    printedAddress: () => address,
    output: () => ({ lines: evidence, count }),
    async explain(kind, exit) {
      await read();
      const container = (await launched.explainExit?.(exit).catch(tell)) ?? null;
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
