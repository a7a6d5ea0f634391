/** Floods the log, as engines do that print every request or every tensor. */

import { delay } from "./core/load.ts";
import type { Spam } from "./core/options.ts";

const LINE_BYTES = 128;
/** Between two pieces of a flood that has a speed. */
const TICK_MS = 50;
/** Bytes of one piece of a flood that goes as fast as it can. */
const PIECE_BYTES = 64 * 1024;

/** Settles when all is printed or `signal` aborts. */
export async function spamLog(
  { bytes, perSecond }: Spam,
  print: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  const began = performance.now();
  let printed = 0;
  let line = 0;
  while (!signal.aborted && (perSecond || printed < bytes)) {
    const due = perSecond ? ((performance.now() - began) / 1000) * bytes : bytes;
    const until = Math.min(due, printed + PIECE_BYTES);
    while (printed < until) {
      const text = `spam line ${line} `;
      print(text.padEnd(LINE_BYTES - 1, "."));
      printed += LINE_BYTES;
      line += 1;
    }
    // Others get their turn after each piece.
    await delay(printed >= due ? TICK_MS : 1, signal).catch(() => undefined);
  }
}
