/** The log of a start: a banner, then the lines that an engine prints while a model loads. */

import { cleanLine } from "../../util/text.ts";

export interface LogLine {
  /** When it is printed, as a share of the whole load time. */
  at: number;
  text: string;
}

/** The first line of the log, before anything can fail. */
export function banner(models: readonly string[]): string {
  return `llmnode sim: a simulated engine, no model runs here; serving ${models.map((m) => cleanLine(m, 200)).join(", ")}`;
}

export interface LoadPace {
  /** On the clock of `performance.now()`. */
  began: number;
  loadTimeMs: number;
  print: (line: string) => void;
  /** Takes lines with a percentage, each drawn over the last one; null: they are printed. */
  redraw: ((text: string) => void) | null;
}

/** Prints lines over the time of a load. Rejects with the signal's reason when that is aborted. */
export async function printLoad(
  lines: readonly LogLine[],
  { began, loadTimeMs, print, redraw }: LoadPace,
  signal?: AbortSignal,
): Promise<void> {
  for (const { at, text } of lines) {
    await delay(began + at * loadTimeMs - performance.now(), signal);
    if (redraw && /\d%/.test(text)) redraw(`\r${text}${text.includes("100%") ? "\n" : ""}`);
    else print(text);
  }
}

/** Rejects with the signal's reason when that is aborted. */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    if (ms <= 0) {
      resolve();
      return;
    }
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
