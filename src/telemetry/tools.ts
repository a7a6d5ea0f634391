/** Asks other programs of this machine, such as docker and nvidia-smi, within a time limit. */

import { messageOf } from "../protocol/errors.ts";
import { cleanLine } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";

type Answer<Content> =
  | ({ outcome: "answered" } & Content)
  /** There is no such program on the PATH. */
  | { outcome: "absent" }
  /** It ended with an error, or was not done in time; `reason` is one line for people. */
  | { outcome: "failed"; reason: string };
type ToolText = Answer<{ text: string }>;

export interface ToolOptions {
  timeoutMs: number;
  /** Where programs are looked for. Default: the PATH of this process. */
  path?: string | undefined;
  /** A longer answer counts as a failure. */
  maxBytes?: number;
  /** Ends the program and the waiting for it. */
  signal?: AbortSignal | undefined;
}

/** Few answers that are asked for here are longer than some hundred lines. */
const MAX_OUTPUT_BYTES = 256 * 1024;

/** Runs a program and returns the lines of its output that are not empty. Never throws. */
export async function askTool(
  argv: readonly [string, ...string[]],
  options: ToolOptions,
): Promise<Answer<{ lines: string[] }>> {
  const answer = await readTool(argv, options);
  return answer.outcome === "answered"
    ? { outcome: "answered", lines: linesOf(answer.text) }
    : answer;
}

/** Runs a program and returns its output as it is. Never throws. */
export async function readTool(
  argv: readonly [string, ...string[]],
  options: ToolOptions,
): Promise<ToolText> {
  const { timeoutMs, signal } = options;
  const [name, ...args] = argv;
  const program = findTool(name, options.path);
  if (program === null) return { outcome: "absent" };
  if (signal?.aborted) return { outcome: "failed", reason: "not asked: stopping" };
  const late = Promise.withResolvers<ToolText>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onAbort: (() => void) | undefined;
  try {
    const child = Bun.spawn([program, ...args], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      maxBuffer: options.maxBytes ?? MAX_OUTPUT_BYTES,
      // A group of its own, so that what it starts ends with it.
      detached: true,
    });
    // A program that hangs inside a driver survives SIGKILL: it must not be waited for.
    child.unref();
    const giveUp = (reason: string) => {
      late.resolve({ outcome: "failed", reason });
      killGroup(child.pid);
    };
    timer = setTimeout(() => giveUp(`no answer in ${formatDuration(timeoutMs)}`), timeoutMs);
    onAbort = () => giveUp("stopping");
    signal?.addEventListener("abort", onAbort, { once: true });
    const answer = Promise.all([child.stdout.text(), child.stderr.text(), child.exited]).then(
      ([out, err, code]): ToolText => {
        if (code === 0) return { outcome: "answered", text: out };
        if (child.signalCode !== null) {
          return { outcome: "failed", reason: `ended by ${child.signalCode}` };
        }
        const reported = linesOf(err)[0] ?? linesOf(out)[0] ?? `exit code ${code}`;
        return { outcome: "failed", reason: reported };
      },
    );
    return await Promise.race([late.promise, answer]);
  } catch (error) {
    return { outcome: "failed", reason: cleanLine(messageOf(error), 200) };
  } finally {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener("abort", onAbort);
  }
}

/** The file of a program on the PATH, or null. */
export function findTool(name: string, path: string | undefined): string | null {
  return Bun.which(name, path === undefined ? {} : { PATH: path });
}

/** Ends a process that leads a group, and the group. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is gone already.
    return;
  }
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => cleanLine(line, 200).trim())
    .filter((line) => line !== "");
}
