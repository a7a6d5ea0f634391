/** Real processes for tests: captured output, waiting for a line, and nothing left behind. */

import { afterAll } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessOptions {
  cwd?: string;
  /** Added to this process's environment; `undefined` removes a variable. */
  env?: Record<string, string | undefined>;
  /** Start from an empty environment instead (PATH is then up to you). */
  cleanEnv?: boolean;
  /** What the process reads; default: nothing (end of file at once). */
  stdin?: "ignore" | "pipe";
  /** How long a disposed process may take to leave after SIGTERM before SIGKILL. Default 3 s. */
  graceMs?: number;
}

export interface WaitOptions {
  /** Default 10 s. */
  timeoutMs?: number;
}

export interface Finished {
  /** The exit status; 128 + n when a signal ended it. */
  code: number;
  stdout: string;
  stderr: string;
}

export interface TestProcess extends AsyncDisposable {
  readonly pid: number;
  /** Settles when the process and both its pipes are done. */
  readonly finished: Promise<Finished>;
  /** What was written so far. */
  stdout(): string;
  stderr(): string;
  /** Both streams in the order in which they were read. */
  output(): string;
  /**
   * The first line (of either stream, past ones included) that matches, with its groups. Throws
   * with all output so far when the process ends or the time is over before.
   */
  waitForLine(pattern: RegExp | string, options?: WaitOptions): Promise<RegExpMatchArray>;
  /** Writes to the process's stdin (needs `stdin: "pipe"`). */
  write(text: string): void;
  /** Signals the process alone. */
  kill(signal: NodeJS.Signals): void;
  /** Signals its whole process group, as Ctrl-C on a terminal does. */
  killGroup(signal: NodeJS.Signals): void;
}

// Inherited by everything that a test process starts, so that even a grandchild in a session of its
// own is found and ended. Not called LLMNODE_*: engines are started without those.
const MARKER = "TEST_PROCESS_MARK";

// A test that ran out of time never disposes what it started; the end of its file does.
const undisposed = new Set<AsyncDisposable>();
afterAll(async () => {
  for (const left of undisposed) await left[Symbol.asyncDispose]();
});

/** Starts a program in its own process group; dispose it (`await using`) to end all it started. */
export function spawnProcess(argv: readonly string[], options: ProcessOptions = {}): TestProcess {
  const mark = crypto.randomUUID();
  const inherited = options.cleanEnv === true ? {} : process.env;
  const child = Bun.spawn([...argv], {
    detached: true,
    stdin: options.stdin ?? "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...inherited, ...options.env, [MARKER]: mark },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let stdout = "";
  let stderr = "";
  let both = "";
  const watchers = new Set<() => void>();
  const wake = () => {
    for (const watcher of watchers) watcher();
  };
  const collect = async (stream: ReadableStream<Uint8Array>, add: (text: string) => void) => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      const text = decoder.decode(chunk, { stream: true });
      add(text);
      both += text;
      wake();
    }
  };
  const piped = Promise.all([
    collect(child.stdout, (text) => void (stdout += text)),
    collect(child.stderr, (text) => void (stderr += text)),
  ]);
  let ended = false;
  const finished = Promise.all([child.exited, piped]).then(([code]): Finished => {
    ended = true;
    wake();
    return { code, stdout, stderr };
  });

  const signalGroup = (signal: NodeJS.Signals) => signalPid(-child.pid, signal);

  const started: TestProcess = {
    pid: child.pid,
    finished,
    stdout: () => stdout,
    stderr: () => stderr,
    output: () => both,
    waitForLine(pattern, { timeoutMs = 10_000 } = {}) {
      const expression =
        typeof pattern === "string" ? new RegExp(escape(pattern)) : new RegExp(pattern);
      const found = Promise.withResolvers<RegExpMatchArray>();
      const timer = setTimeout(() => {
        found.reject(new Error(`no line ${expression} within ${timeoutMs} ms in:\n${both}`));
      }, timeoutMs);
      const look = () => {
        for (const line of [...stdout.split("\n"), ...stderr.split("\n")]) {
          const match = expression.exec(line);
          if (match) return found.resolve(match);
        }
        if (ended) found.reject(new Error(`ended without a line ${expression}:\n${both}`));
      };
      watchers.add(look);
      look();
      return found.promise.finally(() => {
        clearTimeout(timer);
        watchers.delete(look);
      });
    },
    write(text) {
      if (child.stdin === undefined) throw new Error('the process has no stdin: "pipe"');
      void child.stdin.write(text);
      void child.stdin.flush();
    },
    kill: (signal) => signalPid(child.pid, signal),
    killGroup: signalGroup,
    async [Symbol.asyncDispose]() {
      undisposed.delete(started);
      if (child.exitCode === null && child.signalCode === null) {
        signalGroup("SIGTERM");
        await Promise.race([child.exited, Bun.sleep(options.graceMs ?? 3000)]);
      }
      signalGroup("SIGKILL");
      sweep(mark);
      await child.exited;
      // A straggler that was between fork and exec during the first sweep is visible now.
      sweep(mark);
    },
  };
  undisposed.add(started);
  return started;
}

/** Runs a program to its end. Throws when it takes longer than `timeoutMs` (default 30 s). */
export async function runProcess(
  argv: readonly string[],
  options: ProcessOptions & WaitOptions = {},
): Promise<Finished> {
  await using child = spawnProcess(argv, options);
  const timeoutMs = options.timeoutMs ?? 30_000;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`${argv.join(" ")}: not done in ${timeoutMs} ms:\n${child.output()}`)),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([child.finished, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The processes, other than this one, whose environment contains `text` (Linux only). */
export function processesWithEnvironment(text: string): number[] {
  return processIds().filter(
    (pid) => pid !== process.pid && readProc(pid, "environ").includes(text),
  );
}

/** Whether a process is there and not a zombie. */
export function isRunning(pid: number): boolean {
  const state = /^State:\s+(\S)/m.exec(readProc(pid, "status"))?.[1];
  if (state !== undefined) return state !== "Z" && state !== "X";
  return process.platform !== "linux" && signalPid(pid, 0);
}

function sweep(mark: string): void {
  for (const pid of processesWithEnvironment(`${MARKER}=${mark}`)) signalPid(pid, "SIGKILL");
}

function processIds(): number[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // it ended meanwhile, or belongs to somebody else
  }
}

/** False when there is no such process any more. */
function signalPid(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
