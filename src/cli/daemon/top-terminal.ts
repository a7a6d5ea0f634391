/** The terminal of this process for `llmnode top`: taken over, and given back on every way out. */

import type { Environment } from "../base/options.ts";

/** Lines and echo again; false: the terminal is gone, and its modes with it. */
function cook(): boolean {
  try {
    process.stdin.setRawMode(false);
    return true;
  } catch {
    return false;
  }
}

const SIGNALS = ["SIGHUP", "SIGINT", "SIGTERM"] as const;

/** Loads what draws only here, where there is something to draw on. */
export async function takeTerminal(env: Environment) {
  const { openTty, terminalSize } = await import("../../top/terminal/tty.ts");
  const tty = openTty();
  const bug = Promise.withResolvers<never>();
  // Nobody may be waiting for it any more.
  bug.promise.catch(() => {});
  const onBug = (error: unknown) => bug.reject(error);
  let isTaken = true;
  const giveBack = () => {
    if (!isTaken) return;
    isTaken = false;
    // To set the modes of a terminal that takes nothing would wait for it for ever; the runtime sets
    // them back without waiting as the process ends.
    if (tty.restore()) cook();
  };
  // Ink ends the process by a signal that nobody else listens for, before we have ended ourselves.
  const keepListening = () => {};
  for (const name of SIGNALS) process.on(name, keepListening);
  // For what ends us without coming by the end of `using`.
  process.once("exit", giveBack);
  process.on("uncaughtException", onBug);
  process.on("unhandledRejection", onBug);
  process.stdin.setRawMode(true);
  return {
    tty,
    /** Rejects with what nobody else has caught. */
    bug: bug.promise,
    keyboard: {
      onBytes: (listener: (bytes: Uint8Array) => void) => void process.stdin.on("data", listener),
      onEnd(listener: () => void) {
        process.stdin.on("end", listener);
        process.stdin.on("error", listener);
      },
    },
    size: () => terminalSize(process.stdout, env),
    onResize: (listener: () => void) => void process.stdout.on("resize", listener),
    [Symbol.dispose]() {
      giveBack();
      for (const name of SIGNALS) process.off(name, keepListening);
      process.off("exit", giveBack);
      process.off("uncaughtException", onBug);
      process.off("unhandledRejection", onBug);
      process.stdin.pause();
    },
  };
}
