/** Asks other programs of this machine, such as docker and nvidia-smi, within a time limit. */

import { messageOf } from "../protocol/errors.ts";
import { cleanLine } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";

export type ToolAnswer =
  | { outcome: "answered"; lines: string[] }
  /** There is no such program on the PATH. */
  | { outcome: "absent" }
  /** It ended with an error, or was not done in time; `reason` is one line for people. */
  | { outcome: "failed"; reason: string };

export interface ToolOptions {
  timeoutMs: number;
  /** Where programs are looked for. Default: the PATH of this process. */
  path?: string;
}

/** No answer that is asked for here is longer than some hundred lines. */
const MAX_OUTPUT_BYTES = 256 * 1024;

/** Runs a program and returns the lines of its output that are not empty. Never throws. */
export async function askTool(
  argv: readonly [string, ...string[]],
  { timeoutMs, path }: ToolOptions,
): Promise<ToolAnswer> {
  const [name, ...args] = argv;
  const program = Bun.which(name, path === undefined ? {} : { PATH: path });
  if (program === null) return { outcome: "absent" };
  const late = Promise.withResolvers<ToolAnswer>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    const child = Bun.spawn([program, ...args], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      maxBuffer: MAX_OUTPUT_BYTES,
    });
    // A program that hangs inside a driver survives SIGKILL: it must not be waited for.
    child.unref();
    timer = setTimeout(() => {
      late.resolve({ outcome: "failed", reason: `no answer in ${formatDuration(timeoutMs)}` });
      child.kill("SIGKILL");
    }, timeoutMs);
    const answer = Promise.all([child.stdout.text(), child.stderr.text(), child.exited]).then(
      ([out, err, code]): ToolAnswer => {
        if (code === 0) return { outcome: "answered", lines: linesOf(out) };
        if (child.signalCode !== null) {
          return { outcome: "failed", reason: `ended by ${child.signalCode}` };
        }
        const told = linesOf(err)[0] ?? linesOf(out)[0] ?? `exit code ${code}`;
        return { outcome: "failed", reason: told };
      },
    );
    return await Promise.race([late.promise, answer]);
  } catch (error) {
    return { outcome: "failed", reason: cleanLine(messageOf(error), 200) };
  } finally {
    clearTimeout(timer);
  }
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => cleanLine(line, 200).trim())
    .filter((line) => line !== "");
}
