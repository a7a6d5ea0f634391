/** The bounded file that takes an engine's output, and the reading of what is new in it. */

import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { formatBytes } from "../../util/units.ts";
import { countLines, type LineSplitter, splitLines } from "./line-splitter.ts";
import type { LogIndex } from "./log-index.ts";

export interface LogLimits {
  logTickBytes: number;
  logMaxBytes: number;
  logKeepBytes: number;
  lineMaxBytes: number;
}

export interface EngineLog extends AsyncDisposable {
  /** Open for appending: for the child's stdout and stderr, to be closed once it has them. */
  openForChild(): Promise<FileHandle>;
  /** The position of its end. */
  end(): Promise<number>;
  /**
   * The lines since the last reading, safe to print; the oldest are skipped, and that is said in a
   * line, where there are more than a reading may pass on. Cuts the file back when it is too long.
   */
  read(): Promise<string[]>;
  /** The last, unfinished line. */
  readRest(): Promise<string[]>;
  /** Bytes that were dropped from the file's front so far, and among them those never read. */
  readonly dropped: { bytes: number; unreadBytes: number };
}

const CHUNK = 64 * 1024;
/** How often a cut is tried again because the writer got ahead of it. */
const MAX_ATTEMPTS = 3;
/** How many times its limit the file may reach while a writer is too fast to cut it. */
const MAX_OVERSHOOT = 4;
/** Most lines of one reading: a terminal or a link takes no more. */
const MAX_LINES = 2_000;

/**
 * Opens the log at its end, or to be read on from `from`, a position of its index: what earlier runs
 * wrote is kept, and is not read. What the index does not know yet is entered there.
 * Throws LlmnodeError `data_dir_unusable`.
 */
export async function openEngineLog(
  index: LogIndex,
  limits: LogLimits,
  from?: number,
): Promise<EngineLog> {
  const { path } = index;
  const append = () => open(path, "a", 0o600);
  await append().then(
    (created) => created.close(),
    (error: unknown) => {
      throw new LlmnodeError("data_dir_unusable", `cannot write ${path}: ${messageOf(error)}`);
    },
  );
  const log: OpenLog = {
    index,
    limits,
    // Not for appending: cutting the file back writes at its front.
    file: await open(path, "r+"),
    splitter: splitLines(limits.lineMaxBytes),
    dropped: { bytes: 0, unreadBytes: 0 },
    unannouncedBytes: 0,
    offset: 0,
  };
  await catchUp(log, from);

  return {
    dropped: log.dropped,
    openForChild: append,
    end: async () => index.base + (await log.file.stat()).size,
    async read() {
      // At once: it is asked for several times a second, and most of the time nothing is new.
      const { size } = fstatSync(log.file.fd);
      // Someone else cut the file: what is in it now is new.
      if (size < log.offset) {
        log.offset = 0;
        index.restart();
      }
      const lines = await readLines(log, size);
      if (size > limits.logMaxBytes) cutBack(log, size);
      return lines;
    },
    readRest: () => Promise.resolve(clean(log, log.splitter.flush())),
    async [Symbol.asyncDispose]() {
      index.save();
      await log.file.close();
    },
  };
}

interface OpenLog {
  readonly index: LogIndex;
  readonly limits: LogLimits;
  readonly file: FileHandle;
  readonly splitter: LineSplitter;
  readonly dropped: { bytes: number; unreadBytes: number };
  /** Lost by a cut before they were read; the next reading says so. */
  unannouncedBytes: number;
  /** Read up to here, in the file. */
  offset: number;
}

function clean({ limits }: OpenLog, lines: readonly string[]): string[] {
  return lines.map((line) => cleanLine(line, limits.lineMaxBytes)).filter((line) => line !== "");
}

async function readLines(log: OpenLog, size: number): Promise<string[]> {
  const { index, limits, splitter } = log;
  const lines: string[] = [];
  const showFrom = Math.max(log.offset, size - limits.logTickBytes);
  let skippedBytes = log.unannouncedBytes + showFrom - log.offset;
  if (skippedBytes > 0) splitter.skipToNextLine();
  log.unannouncedBytes = 0;
  const time = { from: Date.now(), to: Date.now() };
  // What is not shown is counted all the same.
  for await (const bytes of chunks(log.file, log.offset, size)) {
    index.seen(index.base + log.offset, bytes, time);
    lines.push(...clean(log, splitter.push(bytes.subarray(Math.max(0, showFrom - log.offset)))));
    log.offset += bytes.length;
    const excess = lines.splice(0, Math.max(0, lines.length - MAX_LINES));
    for (const line of excess) skippedBytes += Buffer.byteLength(line) + 1;
  }
  if (skippedBytes > 0) lines.unshift(skipNotice(skippedBytes));
  return lines;
}

function cutBack(log: OpenLog, size: number): void {
  const { index, offset, dropped } = log;
  const { logKeepBytes: keepBytes, logMaxBytes } = log.limits;
  const { from, end, lostBytes, keptLines } = moveToFront(log.file.fd, {
    from: size - keepBytes,
    keepBytes,
    countedTo: index.end - index.base,
    patience: size < logMaxBytes * MAX_OVERSHOOT,
  });
  const { base } = index;
  if (end === null) return index.spoil(base + from);
  const lost = { position: base + end, bytes: lostBytes };
  index.cut({ base: base + from, keptLines, lost, now: Date.now() });
  dropped.bytes += from + lostBytes;
  log.unannouncedBytes = Math.max(0, from - offset) + lostBytes;
  dropped.unreadBytes += log.unannouncedBytes;
  log.offset = Math.max(0, Math.min(offset, end) - from);
}

/** Enters what was written while nothing read it: between two runs, of the engine or the worker. */
async function catchUp(log: OpenLog, from: number | undefined): Promise<void> {
  const { index, file } = log;
  const { size } = await file.stat();
  if (size < index.end - index.base) index.restart();
  if (size > log.limits.logMaxBytes) cutBack(log, size);
  const { size: left, mtimeMs } = await file.stat();
  const last = { from: index.savedAt, to: Math.max(index.savedAt, Math.round(mtimeMs)) };
  let position = index.end;
  for await (const bytes of chunks(file, position - index.base, left)) {
    index.seen(position, bytes, last);
    position += bytes.length;
  }
  // What was cut back meanwhile begins with the oldest that is left.
  const start = from === undefined ? index.end : from <= index.end ? from : index.floor;
  log.offset = Math.max(start, index.floor) - index.base;
}

/** The bytes between two places in the file, in one buffer that is used again. */
async function* chunks(file: FileHandle, from: number, to: number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(Math.max(0, Math.min(CHUNK, to - from)));
  for (let at = from; at < to;) {
    const length = Math.min(buffer.length, to - at);
    const { bytesRead } = await file.read(buffer, { position: at, length });
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

interface CutOptions {
  from: number;
  keepBytes: number;
  /** Up to here line ends are counted. */
  countedTo: number;
  patience: boolean;
}

interface Cut {
  /** Where the kept part began; if nothing was cut, how much of the front was overwritten. */
  from: number;
  end: number | null;
  lostBytes: number;
  /** Line ends in the kept part, of those that are counted. */
  keptLines: number;
}

/**
 * Keeps only the last bytes of the file, from `from` on, and what is added meanwhile; `from` moves
 * on when a fast writer gets ahead. `end` is where the kept part ended before the cut, null if it
 * was not cut: the writer could not be caught up with, and there is patience to try again later.
 * Synchronous, some ms for 10 MB, because what the engine writes between the last look and the cut
 * is lost; it is counted, but for a write that comes between the last two system calls.
 */
function moveToFront(fd: number, { from, keepBytes, countedTo, patience }: CutOptions): Cut {
  const buffer = new Uint8Array(CHUNK);
  let start = from;
  let end = from;
  let keptLines = 0;
  let overwritten = 0;
  let isCaughtUp = false;
  for (let attempt = 0; attempt < MAX_ATTEMPTS && !isCaughtUp; attempt += 1) {
    start = Math.max(start, fstatSync(fd).size - keepBytes);
    end = start;
    keptLines = 0;
    while (!isCaughtUp && end - start < keepBytes * 2) {
      const bytes = readSync(fd, buffer, 0, CHUNK, end);
      writeSync(fd, buffer, 0, bytes, end - start);
      keptLines += countLines(buffer.subarray(0, Math.max(0, Math.min(bytes, countedTo - end))));
      end += bytes;
      isCaughtUp = bytes === 0;
    }
    overwritten = Math.max(overwritten, end - start);
  }
  if (!isCaughtUp && patience) return { from: overwritten, end: null, lostBytes: 0, keptLines };
  const lostBytes = Math.max(0, fstatSync(fd).size - end);
  ftruncateSync(fd, end - start);
  return { from: start, end, lostBytes, keptLines };
}

function skipNotice(bytes: number): string {
  return `(${formatBytes(bytes)} of output skipped here: it came faster than it can be shown)`;
}
