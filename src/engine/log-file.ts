/** The bounded file that takes an engine's output, and the reading of what is new in it. */

import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs";
import { open, type FileHandle } from "node:fs/promises";
import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { cleanLine } from "../util/text.ts";
import { formatBytes } from "../util/units.ts";
import { splitLines } from "./line-splitter.ts";

export interface LogLimits {
  logTickBytes: number;
  logMaxBytes: number;
  logKeepBytes: number;
  lineMaxBytes: number;
}

export interface EngineLog extends AsyncDisposable {
  /** Open for appending: for the child's stdout and stderr, to be closed once it has them. */
  openForChild(): Promise<FileHandle>;
  /** Its length in bytes. */
  size(): Promise<number>;
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
/** How often a cut is tried anew because the writer got ahead of it. */
const MAX_ATTEMPTS = 3;
/** How many times its limit the file may reach while a writer is too fast to cut it. */
const MAX_OVERSHOOT = 4;
/** Most lines of one reading: a terminal or a link takes no more. */
const MAX_LINES = 2_000;

/**
 * Opens the log at its end, or to be read on from `from`: what earlier runs wrote is kept, and is
 * not read. Throws LlmnodeError `data_dir_unusable`.
 */
export async function openEngineLog(
  path: string,
  limits: LogLimits,
  from?: number,
): Promise<EngineLog> {
  const append = () => open(path, "a", 0o600);
  await append().then(
    (created) => created.close(),
    (error: unknown) => {
      throw new LlmnodeError("data_dir_unusable", `cannot write ${path}: ${messageOf(error)}`);
    },
  );
  // Not for appending: cutting the file back writes at its front.
  const file = await open(path, "r+");
  const splitter = splitLines(limits.lineMaxBytes);
  const dropped = { bytes: 0, unreadBytes: 0 };
  const { size } = await file.stat();
  // What was cut back meanwhile begins with the oldest that is left.
  let offset = from === undefined ? size : from <= size ? from : 0;
  // Lost by a cut before they were read; the next reading says so.
  let unannouncedBytes = 0;

  const clean = (lines: readonly string[]) =>
    lines.map((line) => cleanLine(line, limits.lineMaxBytes)).filter((line) => line !== "");

  const readLines = async (size: number): Promise<string[]> => {
    const lines: string[] = [];
    const tooMany = Math.max(0, size - offset - limits.logTickBytes);
    let skippedBytes = unannouncedBytes + tooMany;
    if (skippedBytes > 0) splitter.skipToNextLine();
    offset += tooMany;
    unannouncedBytes = 0;
    const buffer = new Uint8Array(Math.min(CHUNK, size - offset));
    while (offset < size) {
      const { bytesRead } = await file.read(buffer, {
        position: offset,
        length: Math.min(buffer.length, size - offset),
      });
      if (bytesRead === 0) break;
      offset += bytesRead;
      lines.push(...clean(splitter.push(buffer.subarray(0, bytesRead))));
      const excess = lines.splice(0, Math.max(0, lines.length - MAX_LINES));
      for (const line of excess) skippedBytes += Buffer.byteLength(line) + 1;
    }
    if (skippedBytes > 0) lines.unshift(skipNotice(skippedBytes));
    return lines;
  };

  const cutBack = (size: number) => {
    const { logKeepBytes: keepBytes, logMaxBytes } = limits;
    const { from, end, lostBytes } = moveToFront(file.fd, {
      from: size - keepBytes,
      keepBytes,
      patience: size < logMaxBytes * MAX_OVERSHOOT,
    });
    if (end === null) return;
    dropped.bytes += from + lostBytes;
    unannouncedBytes = Math.max(0, from - offset) + lostBytes;
    dropped.unreadBytes += unannouncedBytes;
    offset = Math.max(0, Math.min(offset, end) - from);
  };

  return {
    dropped,
    openForChild: append,
    size: async () => (await file.stat()).size,
    async read() {
      const { size } = await file.stat();
      // Someone else cut the file: what is in it now is new.
      if (size < offset) offset = 0;
      const lines = await readLines(size);
      if (size > limits.logMaxBytes) cutBack(size);
      return lines;
    },
    readRest: () => Promise.resolve(clean(splitter.flush())),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/**
 * Keeps only the last bytes of the file, from `from` on, and what is added meanwhile; `from` moves
 * on when a fast writer gets ahead. `end` is where the kept part ended before the cut, null if it
 * was not cut: the writer could not be caught up with, and there is patience to try again later.
 * Synchronous, some ms for 10 MB, because what the engine writes between the last look and the cut
 * is lost.
 */
function moveToFront(
  fd: number,
  { from, keepBytes, patience }: { from: number; keepBytes: number; patience: boolean },
): { from: number; end: number | null; lostBytes: number } {
  const buffer = new Uint8Array(CHUNK);
  let start = from;
  let end = from;
  let isCaughtUp = false;
  for (let attempt = 0; attempt < MAX_ATTEMPTS && !isCaughtUp; attempt += 1) {
    start = Math.max(start, fstatSync(fd).size - keepBytes);
    end = start;
    while (!isCaughtUp && end - start < keepBytes * 2) {
      const bytes = readSync(fd, buffer, 0, CHUNK, end);
      writeSync(fd, buffer, 0, bytes, end - start);
      end += bytes;
      isCaughtUp = bytes === 0;
    }
  }
  if (!isCaughtUp && patience) return { from: start, end: null, lostBytes: 0 };
  const lostBytes = Math.max(0, fstatSync(fd).size - end);
  ftruncateSync(fd, end - start);
  return { from: start, end, lostBytes };
}

function skipNotice(bytes: number): string {
  return `(${formatBytes(bytes)} of output skipped here: it came faster than it can be shown)`;
}
