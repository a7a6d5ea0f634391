/** Finds places in an engine's log: the start of a line, the last lines, the number of a line. */

import { fstatSync, readSync } from "node:fs";
import { countLines } from "./line-splitter.ts";
import type { LogIndex } from "./log-index.ts";

// All reading is synchronous, from the page cache mostly: the log is cut in this process too, and
// between the sum that makes a position a place in the file and the reading nothing may happen.
// What reads much lets others have their turn after each block.

/** The file that is read, by positions of its index. */
export interface OpenLog {
  index: LogIndex;
  fd: number;
}

const NEWLINE = 0x0a;
const BLOCK_BYTES = 512 * 1024;
/** How far the start of a line is looked for. */
const LOOK_BYTES = 64 * 1024;

/** Up to `buffer`'s length from a position on; nothing of what is not there any more, or not yet. */
export function readAt({ index, fd }: OpenLog, position: number, buffer: Uint8Array): Uint8Array {
  if (position < index.floor) return buffer.subarray(0, 0);
  const bytes = readSync(fd, buffer, 0, buffer.length, position - index.base);
  return buffer.subarray(0, bytes);
}

/** The position of the file's end. */
export function endOf({ index, fd }: OpenLog): number {
  return index.base + fstatSync(fd).size;
}

/** The first start of a line at `position` or after it; null: there is none near. */
export function nextLineStart(log: OpenLog, position: number): number | null {
  if (position === 0) return position;
  const before = readAt(log, position - 1, new Uint8Array(1));
  if (before[0] === NEWLINE) return position;
  const bytes = readAt(log, position, new Uint8Array(LOOK_BYTES));
  const at = bytes.indexOf(NEWLINE);
  return at === -1 ? null : position + at + 1;
}

/** The start of the line that `position` is in; `position` itself where that is far. */
export function lineStartAt(log: OpenLog, position: number): number {
  const from = Math.max(log.index.floor, position - LOOK_BYTES);
  const bytes = readAt(log, from, new Uint8Array(Math.max(0, position - from)));
  const at = bytes.lastIndexOf(NEWLINE);
  if (at !== -1) return from + at + 1;
  return from === 0 ? 0 : position;
}

/** The start of the last lines between two positions; an unfinished one counts. */
export async function tailStart(
  log: OpenLog,
  { from, to, lines }: { from: number; to: number; lines: number },
  signal: AbortSignal,
): Promise<number> {
  const buffer = new Uint8Array(BLOCK_BYTES);
  let missing = Math.max(1, lines);
  for (let end = to; end > from;) {
    signal.throwIfAborted();
    const start = Math.max(from, end - BLOCK_BYTES);
    const bytes = readAt(log, start, buffer.subarray(0, end - start));
    // Cut meanwhile: what is left begins here.
    if (bytes.length < end - start) return Math.max(end, log.index.floor);
    // The end of the last line begins no other; asked for no line, it is where to begin.
    const isLast = end === to && bytes.at(-1) === NEWLINE;
    if (isLast && lines === 0) return to;
    for (let i = isLast ? bytes.length - 2 : bytes.length - 1; i >= 0; i -= 1) {
      if (bytes[i] !== NEWLINE) continue;
      missing -= 1;
      if (missing === 0) return start + i + 1;
    }
    end = start;
    await turn();
  }
  return Math.min(from, to);
}

/** Line ends before a position, as far as they were ever counted. */
export async function lineAt(log: OpenLog, position: number, signal: AbortSignal): Promise<number> {
  const { index } = log;
  const buffer = new Uint8Array(BLOCK_BYTES);
  for (;;) {
    const point = index.pointAt(position);
    const { base } = index;
    let at = point.position;
    let { line } = point;
    while (at < position && at >= index.floor) {
      signal.throwIfAborted();
      const bytes = readAt(log, at, buffer.subarray(0, Math.min(BLOCK_BYTES, position - at)));
      if (bytes.length === 0) return line;
      line += countLines(bytes);
      at += bytes.length;
      if (at < position) await turn();
    }
    // Cut meanwhile: from the first place that is left.
    if (base === index.base || position < index.floor) return line;
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
