/** One run of an engine: its process, what it started, and the reading of its output. */

import { join } from "node:path";
import { messageOf } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { sleep } from "../util/sleep.ts";
import { openEngineLog } from "./log-file.ts";
import { readAddress, readProgress, tellingLine, type PrintedAddress } from "./log-lines.ts";
import { trackTree, type ProcessTree } from "./process-tree.ts";
import { findProgram, spawnEngine, type EngineCommandLine, type EngineProcess } from "./process.ts";
import type { SupervisorSettings } from "./settings.ts";
import type { EngineProgress } from "./state.ts";

export interface RunOptions {
  command: EngineCommandLine;
  engineId: string;
  /** The engine's folder; its log is `engine.log` in it. */
  dir: string;
  settings: SupervisorSettings;
  log: Log;
  onLine: (line: string) => void;
  onProgress: (progress: EngineProgress) => void;
}

/** Disposing of it ends the reading, not the process. */
export interface EngineRun extends AsyncDisposable {
  readonly id: string;
  readonly process: EngineProcess;
  readonly tree: ProcessTree;
  /** Where this run says that it listens. */
  printedAddress(): PrintedAddress | null;
  /** Reads what the log holds by now and returns the line that best explains an end. */
  explain(): Promise<string | null>;
}

/** Lines that are searched for an explanation. */
const MAX_EVIDENCE = 200;

/**
 * Starts the program. Throws LlmnodeError `engine_not_found`, `engine_not_executable`, `usage` or
 * `data_dir_unusable`; then nothing runs.
 */
export async function startRun(options: RunOptions): Promise<EngineRun> {
  const { command, engineId, settings, log } = options;
  await using undo = new AsyncDisposableStack();
  const program = await findProgram(command);
  const file = undo.use(await openEngineLog(join(options.dir, "engine.log"), settings));
  const output = await file.openForChild();
  let child: EngineProcess;
  try {
    child = spawnEngine(command, program, { engineId, logFd: output.fd });
  } finally {
    await output.close();
  }
  undo.move();

  const tree = trackTree(child, engineId);
  const ending = new AbortController();
  const evidence: string[] = [];
  let address: PrintedAddress | null = null;

  const take = (lines: readonly string[]) => {
    for (const line of lines) {
      // The first address is the engine's; what it starts inside itself prints later ones.
      address ??= readAddress(line);
      const progress = readProgress(line);
      if (progress) options.onProgress(progress);
      evidence.push(line);
      options.onLine(line);
    }
    evidence.splice(0, evidence.length - MAX_EVIDENCE);
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
  const loops = [
    repeat(settings.logPollMs, ending.signal, read),
    repeat(settings.treeMs, ending.signal, tree.refresh),
  ];

  return {
    id: crypto.randomUUID(),
    process: child,
    tree,
    printedAddress: () => address,
    async explain() {
      await read();
      return tellingLine(evidence);
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
