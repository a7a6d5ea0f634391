/** Picks the lines of a log that show why an engine ended, and makes them short. */

import { isTrouble } from "./log-lines.ts";
import { isHarmless, isTelling } from "./rules.ts";

const MAX_EVIDENCE_LINES = 8;
const MAX_EVIDENCE_BYTES = 2048;
/** Longest line of evidence, in characters. */
const MAX_LINE = 400;

// What loggers put before a message: `(EngineCore pid=7) ERROR 11-21 03:04:05 [core.py:708] `,
// `[2026-11-21 03:04:05 TP0] `, `2026-11-21T03:04:05.123Z ERROR launcher: `, `ERROR:    `.
const PREFIXES = [
  /^\([\w ]+ pid=\d+\)\s*/,
  /^\[?\d{4}-\d\d-\d\d[T ][\d:.,]+Z?(?: [\w ]*)?\]?\s+/,
  /^(?:ERROR|CRITICAL|FATAL)\b:?\s+(?:\d\d-\d\d [\d:.,]+\s+)?(?:\[[\w./]+:\d+\]\s*)?/,
  /^[a-z]\w*(?:::\w+)+: (?:[\w/.-]+:\d+: )?/,
  /^text_generation_launcher: /,
];

/** A line without what its logger put before it. */
export function bareLine(line: string): string {
  let bare = line.trim();
  for (const prefix of PREFIXES) bare = bare.replace(prefix, "");
  return bare === "" ? line.trim() : bare;
}

/**
 * The lines that tell of trouble, oldest first, bounded; always with the one at `main`, if given.
 * Where no line does, the last ones. `lines` must be printable and without secrets.
 */
export function collectEvidence(lines: readonly string[], main: number | null): string[] {
  const isShown = (line: string) => line.trim() !== "" && !isHarmless(line);
  let picked = indexesOf(lines, (line) => isShown(line) && (isTelling(line) || isTrouble(line)));
  if (picked.length === 0) picked = indexesOf(lines, (line) => line.trim() !== "");
  // One process after the other prints the same exception: once is enough.
  const seen = new Set<string>();
  const kept: number[] = [];
  let bytes = 0;
  const order = main === null ? picked.toReversed() : [main, ...picked.toReversed()];
  for (const at of order) {
    const line = shortened(lines[at] ?? "");
    const bare = bareLine(line);
    if (seen.has(bare)) continue;
    bytes += Buffer.byteLength(line);
    if (bytes > MAX_EVIDENCE_BYTES || kept.length === MAX_EVIDENCE_LINES) break;
    seen.add(bare);
    kept.push(at);
  }
  return kept.sort((a, b) => a - b).map((at) => shortened(lines[at] ?? ""));
}

function indexesOf(lines: readonly string[], fits: (line: string) => boolean): number[] {
  return lines.flatMap((line, at) => (fits(line) ? [at] : []));
}

function shortened(line: string): string {
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE - 1)}…` : line;
}
