/** One program on a pseudo-terminal, measured: processor, memory, bytes, and how soon keys show. */

import { cpuMs, residentBytes } from "../proc.ts";

export interface PtyCase {
  argv: readonly string[];
  columns: number;
  rows: number;
  /** Before anything is counted. */
  warmUpMs: number;
  windowMs: number;
  /** Typed after the warm-up: to freeze the screen, say. */
  keys?: string;
  /** Typed one after the other after the window, to see how soon each one shows. */
  presses?: readonly string[];
  signal: AbortSignal;
}

export interface PtyFigures {
  firstPaintMs: number;
  cpuPercent: number;
  bytesPerS: number;
  residentMb: number;
  /** Of the times from a key to the next bytes. */
  keyP95Ms: number | null;
  /** `ESC[2J` after the first. */
  clears: number;
}

const PRESS_LIMIT_MS = 1000;
const MB = 1024 * 1024;

export async function measurePty(one: PtyCase): Promise<PtyFigures> {
  const started = performance.now();
  let bytes = 0;
  let clears = 0;
  let firstAt: number | null = null;
  let onBytes = () => {};
  const child = Bun.spawn([...one.argv], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: "/nonexistent",
      TERM: "xterm-256color",
      LANG: "C.UTF-8",
    },
    terminal: {
      cols: one.columns,
      rows: one.rows,
      data(_, data) {
        firstAt ??= performance.now();
        bytes += data.length;
        clears += Buffer.from(data).toString("latin1").split("\u001b[2J").length - 1;
        onBytes();
      },
    },
  });
  const pty = child.terminal;
  if (!pty) throw new Error("there are no pseudo-terminals here");
  try {
    await sleep(one.warmUpMs, one.signal);
    if (one.keys !== undefined) {
      pty.write(one.keys);
      await sleep(500, one.signal);
    }
    if (child.exitCode !== null) throw new Error(`${one.argv.join(" ")} has ended`);
    const before = { cpu: cpuMs(child.pid), bytes, at: performance.now() };
    await sleep(one.windowMs, one.signal);
    const elapsedMs = performance.now() - before.at;
    const cpuPercent = (100 * (cpuMs(child.pid) - before.cpu)) / elapsedMs;
    const bytesPerS = (1000 * (bytes - before.bytes)) / elapsedMs;
    const residentMb = residentBytes(child.pid) / MB;
    const times: number[] = [];
    for (const key of one.presses ?? []) {
      // Not in step with the frames.
      await sleep(40 + Math.random() * 120, one.signal);
      const at = performance.now();
      const shown = Promise.withResolvers<void>();
      onBytes = shown.resolve;
      pty.write(key);
      await Promise.race([shown.promise, sleep(PRESS_LIMIT_MS, one.signal)]);
      times.push(performance.now() - at);
    }
    times.sort((a, b) => a - b);
    return {
      firstPaintMs: (firstAt ?? Number.NaN) - started,
      cpuPercent,
      bytesPerS,
      residentMb,
      keyP95Ms: times[Math.ceil(times.length * 0.95) - 1] ?? null,
      clears: Math.max(0, clears - 1),
    };
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    pty.close();
  }
}

/** Rejects when the signal aborts. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
