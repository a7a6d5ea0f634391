/** Faults of the whole process: it dies, hangs, floods its log, leaves children behind. */

import { LlmnodeError } from "../protocol/errors.ts";
import { delay } from "./core/load.ts";
import type { SimOptions, Spam } from "./core/options.ts";

/** SIGKILL, as shells and containers count it. */
const KILLED = 137;

/** Says why, then ends the process with `code`, or by SIGKILL for 137. */
export function die(options: SimOptions, why: string, code: number): void {
  options.print(`llmnode sim: dying now, ${why} (simulated)`);
  if (options.exit) options.exit(code);
  else if (code === KILLED) process.kill(process.pid, "SIGKILL");
  else process.exit(code);
}

type Handler = (req: Request) => Promise<Response>;

/** `freeze` is called when it begins to hang: what runs is to stand still, not to end. */
export function createHang(options: SimOptions, freeze: () => void) {
  const { hangAfterMs, hangAfterRequests, healthLies, print } = options;
  let isHung = false;
  let taken = 0;
  let timer: Timer | undefined;

  const hang = (why: string) => {
    if (isHung) return;
    isHung = true;
    freeze();
    print(`llmnode sim: hangs from now on, ${why} (simulated)`);
  };
  return {
    /** Lets requests through until it hangs. */
    guard: (handle: Handler) => async (req: Request) => {
      const isWork = req.method === "POST";
      if (isWork && taken === hangAfterRequests) hang(`after ${taken} requests`);
      if (isWork) taken += 1;
      if (isHung && (isWork || !healthLies)) await untilGone(req.signal);
      return handle(req);
    },
    /** From now on the time until the hang counts. */
    begin() {
      if (hangAfterMs !== null) {
        timer = setTimeout(() => hang(`after ${hangAfterMs} ms`), hangAfterMs);
      }
    },
    stop: () => clearTimeout(timer),
  };
}

function untilGone(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

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

/** They end by themselves, so that a forgotten one is not there for ever. */
const LIFE_S = 3600;

/**
 * Starts the children that are asked for and prints their pids; nothing here ends them. With
 * `ignoreTerm` they ignore SIGTERM and SIGINT as well. Throws `usage` where there is no shell.
 */
export function startChildren(options: SimOptions): void {
  const { forkChild, setsidChild } = options;
  if (forkChild) startChild(options, false);
  if (setsidChild) startChild(options, true);
}

function startChild({ ignoreTerm, print }: SimOptions, detached: boolean): void {
  const shell = Bun.which("sh");
  if (shell === null) throw new LlmnodeError("usage", "a child needs the program sh on the PATH");
  const deaf = ignoreTerm ? 'trap "" TERM INT; ' : "";
  const child = Bun.spawn([shell, "-c", `${deaf}exec sleep ${LIFE_S}`], {
    stdio: ["ignore", "ignore", "ignore"],
    detached,
  });
  child.unref();
  const where = detached ? "in its own session" : "in this process group";
  print(`llmnode sim: child ${child.pid} ${where} (simulated, it stays when the engine ends)`);
}
