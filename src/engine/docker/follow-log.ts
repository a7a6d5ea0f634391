/** Writes what a container prints into the engine's log, where no client of it does. */

import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { sleep } from "../../util/sleep.ts";
import type { LaunchContext } from "../process/launch.ts";
import { ENGINE_LOG } from "../log/log-index.ts";
import { findProgram, spawnEngine, type EngineProcess } from "../process/process.ts";
import { send } from "../process/process-tree.ts";

export interface FollowOptions {
  context: LaunchContext;
  /** The tool's words that print the log and go on with what follows. */
  argv: (since: Date | null) => readonly string[];
  /** What was printed before is in the log already; null: nothing was. */
  since: Date | null;
  /** What the container does; `unknown`: it is not known at present. */
  poll: () => Promise<"running" | "ended" | "gone" | "unknown">;
  /** Between two attempts. */
  pollMs: number;
}

/** A log driver that cannot be read fails at once, each time. */
const MAX_FAILURES = 5;

/**
 * Follows until the container has ended or `signal` aborts; begins again where the daemon breaks
 * off. The tool's process carries the engine's mark, so that it is found if this worker dies.
 */
export async function followLog(options: FollowOptions, signal: AbortSignal): Promise<void> {
  let { since } = options;
  let failures = 0;
  while (!signal.aborted && failures < MAX_FAILURES) {
    const child = await spawnIntoLog(options.context, options.argv(since));
    // Every tool leads a group of its own.
    const kill = () => send(-child.pid, "SIGKILL");
    signal.addEventListener("abort", kill, { once: true });
    if (signal.aborted) kill();
    const exit = await child.exited;
    signal.removeEventListener("abort", kill);
    since = new Date();
    failures = exit.code === 0 ? 0 : failures + 1;
    let state: Awaited<ReturnType<FollowOptions["poll"]>> = "unknown";
    // While the daemon is gone, the tool would only write that into the engine's log.
    while (state === "unknown" && !signal.aborted) {
      await sleep(options.pollMs, signal);
      if (!signal.aborted) state = await options.poll();
    }
    // What was broken off may have missed the last words.
    if (state === "gone" || (state === "ended" && exit.code === 0)) return;
  }
}

/** Starts a tool that writes into the engine's log. Throws as `findProgram` does. */
export async function spawnIntoLog(
  context: LaunchContext,
  argv: readonly string[],
): Promise<EngineProcess> {
  const command = { ...context.command, argv };
  const program = await findProgram(command);
  const log = await open(join(context.dir, ENGINE_LOG), "a", 0o600);
  try {
    return spawnEngine(command, program, { engineId: context.engineId, logFd: log.fd });
  } finally {
    await log.close();
  }
}

/** When the engine's log was last written to: what came before is in it. */
export async function lastWritten(dir: string): Promise<Date | null> {
  return (await stat(join(dir, ENGINE_LOG)).catch(() => null))?.mtime ?? null;
}
