/** Asks a container tool for something: short calls of its program, bounded in time and output. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { cleanLine } from "../../util/text.ts";
import { findProgram, type EngineCommandLine } from "../process/process.ts";

export interface ToolAnswer {
  /** Null: it was ended, because it took too long or its caller has gone. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface CallOptions {
  /** Default: the tool's own. 0: no limit. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** Calls the tool with these words. Never throws: what cannot be started has failed. */
export type Tool = (words: readonly string[], options?: CallOptions) => Promise<ToolAnswer>;

/** More is not read; the JSON of one container has some 10 KiB. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;

/**
 * `prefix`: the program with what stands before it (`sudo`) and its own options, so that the call
 * reaches the same daemon, as the same user, as the command of the engine.
 */
export function createTool(
  prefix: readonly string[],
  { env, cwd }: EngineCommandLine,
  { callTimeoutMs }: { callTimeoutMs: number },
): Tool {
  return async (words, { timeoutMs = callTimeoutMs, signal } = {}) => {
    const argv = [...prefix, ...words];
    try {
      const program = await findProgram({ argv, env, cwd });
      if (signal?.aborted) return NO_ANSWER;
      // No terminal and no stdin: `sudo` then fails instead of asking for a password.
      const child = Bun.spawn({
        cmd: [program, ...argv.slice(1)],
        argv0: argv[0] ?? program,
        env,
        cwd,
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        detached: true,
        ...(timeoutMs > 0 && { timeout: timeoutMs, killSignal: "SIGKILL" as const }),
        ...(signal && { signal, killSignal: "SIGKILL" as const }),
      });
      const [stdout, stderr] = await Promise.all([
        readBounded(child.stdout),
        readBounded(child.stderr),
        child.exited,
      ]);
      return { code: child.signalCode === null ? child.exitCode : null, stdout, stderr };
    } catch (error) {
      // While its package is being upgraded, a program may be missing for a moment.
      return { code: NOT_FOUND, stdout: "", stderr: messageOf(error) };
    }
  };
}

const NO_ANSWER: ToolAnswer = { code: null, stdout: "", stderr: "" };
/** As a shell has it for a program that cannot be started. */
const NOT_FOUND = 127;

/** What a call that failed says, in one line. */
export function wordsOf(answer: ToolAnswer, name: string): string {
  if (answer.code === null) return `${name} does not answer`;
  const lines = answer.stderr.split("\n").filter((line) => line.trim() !== "");
  const telling = lines.find((line) => /error|cannot|denied|failed/i.test(line)) ?? lines[0];
  return cleanLine(telling ?? `${name} failed with code ${answer.code}`, 300);
}

/**
 * The reason why the tool can do nothing at all, with the next step; null if `answer` is about
 * something else. The messages are those of docker/cli, podman and nerdctl in August 2026.
 */
export function toolTrouble(answer: ToolAnswer, name: string): LlmnodeError | null {
  if (answer.code === 0) return null;
  const { stderr } = answer;
  const code = answer.code === NOT_FOUND ? "engine_not_found" : "engine_not_executable";
  const fail = (message: string, hints: string[]) => new LlmnodeError(code, message, { hints });
  if (answer.code === NOT_FOUND) return fail(wordsOf(answer, name), [`is ${name} installed?`]);
  if (answer.code === null) {
    return fail(`${name} does not answer`, [`see what it says: ${name} info`]);
  }
  if (/permission denied while trying to connect|got permission denied/i.test(stderr)) {
    return fail(`this user may not use ${name}`, [
      `sudo usermod -aG ${name} $USER, then log in again`,
      `or put sudo before it: llmnode join <head> -- sudo -n ${name} run ...`,
    ]);
  }
  if (
    /cannot connect to the docker daemon|is the docker daemon running|failed to connect to the docker api|error during connect|cannot connect to podman|cannot access containerd socket|rootless containerd not running/i.test(
      stderr,
    )
  ) {
    const start = name === "docker" ? ["sudo systemctl start docker"] : [];
    return fail(`the ${name} daemon does not run: ${wordsOf(answer, name)}`, [
      ...start,
      `check it with: ${name} info`,
    ]);
  }
  if (/sudo: .*(?:password|terminal)/i.test(stderr)) {
    return fail("sudo asks for a password, and there is no terminal to enter it", [
      `allow it without one in /etc/sudoers, or add the user to the group ${name}`,
    ]);
  }
  return null;
}

async function readBounded(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    // Read to the end all the same: a full pipe would hold the program up.
    if (text.length < MAX_OUTPUT_BYTES) text += decoder.decode(chunk, { stream: true });
  }
  return text;
}
