/** The processes of a drill, each in a group of its own, and the end of all that came of them. */

import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";

/** Inherited by all that is started: what a worker starts is found by it when the worker is gone. */
const MARK = "DRILL_MARK";

const STOP_LIMIT_MS = 10_000;
const POLL_MS = 50;

export interface Started {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Whether it has ended. */
  isGone(): boolean;
  readonly exited: Promise<number>;
  /** Signals the process alone. */
  kill(signal: NodeJS.Signals): void;
}

export interface Processes extends AsyncDisposable {
  start(name: string, argv: readonly string[], options: { cwd: string; logFile: string }): Started;
}

/** `stopLimitMs`: what has not ended so long after SIGTERM is killed. */
export function createProcesses({ stopLimitMs = STOP_LIMIT_MS } = {}): Processes {
  const mark = crypto.randomUUID();
  const running = new Set<Bun.Subprocess>();
  const killAll = () => {
    for (const pid of marked(mark)) signalPid(pid, "SIGKILL");
  };
  // The last resort for an end that passes by every `finally`.
  process.on("exit", killAll);
  return {
    start(name, argv, { cwd, logFile }) {
      const log = openSync(logFile, "a");
      // Its own group: Ctrl-C comes to the drill, which ends all in order.
      const child = Bun.spawn([...argv], {
        cwd,
        detached: true,
        stdio: ["ignore", log, log],
        env: { ...cleanEnvironment(), [MARK]: mark },
      });
      closeSync(log);
      running.add(child);
      void child.exited.then(() => running.delete(child));
      return {
        name,
        pid: child.pid,
        logFile,
        isGone: () => child.exitCode !== null || child.signalCode !== null,
        exited: child.exited,
        kill: (signal) => signalPid(child.pid, signal),
      };
    },
    async [Symbol.asyncDispose]() {
      const deadline = performance.now() + stopLimitMs;
      for (const child of running) {
        // A stopped one hears nothing until it goes on.
        child.kill("SIGCONT");
        child.kill("SIGTERM");
      }
      while (running.size > 0 && performance.now() < deadline) await Bun.sleep(POLL_MS);
      while (marked(mark).length > 0) {
        killAll();
        await Bun.sleep(POLL_MS);
      }
      process.off("exit", killAll);
    },
  };
}

/** Does nothing for a process that has ended. */
export function signalPid(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** Processes that carry the mark in their environment; zombies have none any more. */
function marked(mark: string): number[] {
  const needle = `${MARK}=${mark}`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && environmentOf(pid).includes(needle));
}

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8");
  } catch {
    return ""; // it has ended, or is somebody else's
  }
}

/** Without settings that are meant for other things, and without proxies: all stays on loopback. */
function cleanEnvironment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined && !/^(LLMNODE_|BUN_|NODE_)|_proxy$/i.test(entry[0]),
    ),
  );
}
