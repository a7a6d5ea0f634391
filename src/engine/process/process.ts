/** Starts an engine's program in a session of its own. */

import { access, constants, stat } from "node:fs/promises";
import { delimiter, isAbsolute, resolve } from "node:path";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { ENGINE_MARK, readProcessNow } from "./proc.ts";
import type { Environment } from "../shell-words.ts";

export interface EngineExit {
  /** Null: ended by a signal, or not known, for a process that is no child of ours. */
  code: number | null;
  signal: string | null;
}

/** What is known of the container that an engine ran in. */
export interface ContainerEnd {
  /** `docker`, `podman`, `nerdctl`. */
  tool: string;
  /** Whether the kernel ended it for want of memory; null: not known any more. */
  oomKilled: boolean | null;
}

export interface EngineProcess {
  /** Also the number of its process group and session. */
  readonly pid: number;
  /** Settles when the leading process has ended; its children may live on. */
  readonly exited: Promise<EngineExit>;
  hasExited(): boolean;
}

export interface EngineCommandLine {
  argv: readonly string[];
  env: Environment;
  cwd: string;
}

// What would change how the engine runs, or belongs to this program alone.
const WITHHELD =
  /^(?:BUN_CONFIG_MAX_HTTP_REQUESTS|BUN_OPTIONS|BUN_BE_BUN|MIMALLOC_PURGE_HOLES_MIN_INTERVAL|LLMNODE_.*)$/;
// Left over from another engine it would mix both engines' metrics.
const STALE = "PROMETHEUS_MULTIPROC_DIR";

// Set unless the user did: logs without delay, colours and logo; names that keep the environment
// readable (setproctitle); the GPU order of nvidia-smi.
const DEFAULTS: Record<string, string> = {
  PYTHONUNBUFFERED: "1",
  NO_COLOR: "1",
  VLLM_DISABLE_LOG_LOGO: "1",
  SPT_NOENV: "1",
  CUDA_DEVICE_ORDER: "PCI_BUS_ID",
};

/** The environment that an engine gets. */
export function engineEnvironment(env: Environment, engineId: string): Record<string, string> {
  const kept: Record<string, string> = { ...DEFAULTS };
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && !WITHHELD.test(name) && name !== STALE) kept[name] = value;
  }
  kept[ENGINE_MARK] = engineId;
  return kept;
}

/** Whether a bare program name is found on the PATH of `env`. */
export async function isOnPath(name: string, env: Environment): Promise<boolean> {
  return (await searchPath(name, env, ".")).found !== null;
}

/**
 * The file that a command starts, found as a shell would find it. Throws LlmnodeError
 * `engine_not_found`, `engine_not_executable` or `usage` (no command, no such working directory).
 */
export async function findProgram({ argv, env, cwd }: EngineCommandLine): Promise<string> {
  const name = argv[0] ?? "";
  if (name === "") {
    throw new LlmnodeError("usage", "the engine command is empty", {
      hints: ["llmnode join <head> -- vllm serve <model> --port 8080"],
    });
  }
  if (!(await stat(cwd).catch(() => null))?.isDirectory()) {
    throw new LlmnodeError("usage", `the working directory ${shown(cwd)} does not exist`);
  }
  const { found, blocked } = name.includes("/")
    ? await examine(resolve(cwd, name))
    : await searchPath(name, env, cwd);
  if (found !== null) return found;
  if (blocked !== null) throw notExecutable(blocked);
  throw notFound(name, env);
}

/** Detached, without stdin. Throws LlmnodeError `engine_not_found`, `engine_not_executable`. */
export function spawnEngine(
  command: EngineCommandLine,
  program: string,
  { engineId, logFd }: { engineId: string; logFd: number },
): EngineProcess {
  const child = startChild(program, command, { engineId, logFd });
  let ended = false;
  const exited = child.exited.then((): EngineExit => {
    ended = true;
    return {
      code: child.exitCode,
      signal: child.signalCode === null ? null : String(child.signalCode),
    };
  });
  return { pid: child.pid, exited, hasExited: () => ended };
}

/** Started by an earlier worker: its end is seen by polling, its exit code by its parent alone. */
export function adoptProcess(
  { pid, start_time: startTime }: { pid: number; start_time: string },
  pollMs: number,
): EngineProcess {
  const { promise, resolve } = Promise.withResolvers<EngineExit>();
  let ended = false;
  const poll = () => {
    const entry = readProcessNow(pid);
    // Ended but not collected yet (Z) is ended: where its parent never does, that stays for ever.
    if (entry !== null && entry.startTime === startTime && entry.state !== "Z") return;
    ended = true;
    clearInterval(timer);
    resolve({ code: null, signal: null });
  };
  const timer = setInterval(poll, pollMs);
  // This alone keeps no process up.
  timer.unref();
  poll();
  return {
    pid,
    exited: promise,
    hasExited() {
      // The caller may be about to signal the number, which could be another's by now.
      if (!ended) poll();
      return ended;
    },
  };
}

/** Stands for a leader that has ended already. */
export function goneProcess(pid: number): EngineProcess {
  return { pid, exited: Promise.resolve({ code: null, signal: null }), hasExited: () => true };
}

/** Has ended when `end` says so, in place of the process itself; an error ends it with no code. */
export function processUntil(
  pid: number,
  end: Promise<EngineExit>,
  onError: (error: unknown) => void,
): EngineProcess {
  let ended = false;
  const exited = end.catch((error: unknown): EngineExit => {
    onError(error);
    return { code: null, signal: null };
  });
  return {
    pid,
    exited: exited.then((exit) => {
      ended = true;
      return exit;
    }),
    hasExited: () => ended,
  };
}

/** "exited with code 1", "killed by SIGKILL". */
export function describeExit({ code, signal }: EngineExit): string {
  if (signal !== null) return `killed by ${signal}`;
  return code === null ? "ended" : `exited with code ${code}`;
}

function startChild(
  program: string,
  { argv, env, cwd }: EngineCommandLine,
  { engineId, logFd }: { engineId: string; logFd: number },
) {
  try {
    return Bun.spawn({
      cmd: [program, ...argv.slice(1)],
      argv0: argv[0] ?? program,
      env: engineEnvironment(env, engineId),
      cwd,
      stdin: "ignore",
      stdout: logFd,
      stderr: logFd,
      detached: true,
    });
  } catch (error) {
    // The file was there a moment ago: ENOENT is then about the interpreter in its first line.
    if (systemCode(error) === "ENOENT") {
      throw new LlmnodeError(
        "engine_not_found",
        `cannot start ${shown(program)}: the interpreter in its first line is missing`,
        { cause: error },
      );
    }
    throw notExecutable(`${program} (${messageOf(error)})`);
  }
}

async function searchPath(name: string, env: Environment, cwd: string) {
  let blocked: string | null = null;
  for (const folder of (env["PATH"] ?? "").split(delimiter)) {
    const path = isAbsolute(folder) ? `${folder}/${name}` : resolve(cwd, folder, name);
    const result = await examine(path);
    if (result.found !== null) return result;
    blocked ??= result.blocked;
  }
  return { found: null, blocked };
}

/** `blocked` is a path that exists but cannot be run. */
async function examine(path: string): Promise<{ found: string | null; blocked: string | null }> {
  const info = await stat(path).catch(() => null);
  if (info === null) return { found: null, blocked: null };
  const runnable =
    info.isFile() &&
    (await access(path, constants.X_OK).then(
      () => true,
      () => false,
    ));
  return runnable ? { found: path, blocked: null } : { found: null, blocked: path };
}

function notFound(name: string, env: Environment): LlmnodeError {
  const hints = name.includes("/")
    ? []
    : [
        "activate the environment that has it, or write its full path",
        `PATH is ${shown(env["PATH"] ?? "not set")}`,
      ];
  if (/\s/.test(name.trim())) hints.unshift("write the command as separate words, without quotes");
  const where = name.includes("/") ? "there is no such file" : "it is not on the PATH";
  return new LlmnodeError("engine_not_found", `cannot start ${shown(name)}: ${where}`, { hints });
}

function notExecutable(path: string): LlmnodeError {
  return new LlmnodeError("engine_not_executable", `cannot start ${shown(path)}: not executable`, {
    hints: [`chmod +x ${shown(path)}`],
  });
}

function shown(text: string): string {
  return cleanLine(text, 300);
}
