/** Keeps one long-lived nvidia-smi that prints all GPUs again and again, and notices when it fails. */

import { messageOf } from "../protocol/errors.ts";
import { sleep } from "../util/sleep.ts";
import { cleanLine } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";
import { type Column, GPU_FIELDS, type GpuRow, readGpuRow, readHeader } from "./nvidia-query.ts";
import { askTool, findTool, killGroup } from "./tools.ts";

export interface NvidiaLoopOptions {
  onRow: (row: GpuRow) => void;
  /** Whether there is a program at all; reported before its first line and when it changes. */
  onPresence: (present: boolean) => void;
  /** Why there are no figures, or not of all GPUs, in one line; null: all is well. */
  onProblem: (problem: string | null) => void;
  /** Where nvidia-smi is looked for. Default: the PATH of this process. */
  path?: string | undefined;
  settings: NvidiaLoopSettings;
}

export const NVIDIA_LOOP_DEFAULTS = {
  /** Between two readings of all GPUs; one reading may take as long again on many GPUs. */
  intervalMs: 2_000,
  /** How long until the first line: without persistence mode a driver is loaded for it. */
  firstLineMs: 30_000,
  /** How long it may be silent after that. */
  silentMs: 10_000,
  /** Wait before the first restart; doubles with each failure. */
  backoffFirstMs: 1_000,
  backoffMaxMs: 60_000,
  /** A run of this length resets the backoff. */
  backoffResetMs: 60_000,
  /** Between two readings where each needs a program of its own. */
  pollMs: 10_000,
  /** Between two searches for a program that is not there. */
  absentRetryMs: 60_000,
};

export type NvidiaLoopSettings = typeof NVIDIA_LOOP_DEFAULTS;

/** No line of the answer is nearly as long. */
const MAX_LINE_CHARS = 4096;
/** Lines that are no row, one after the other, before it counts as broken. */
const MAX_ODD_LINES = 1_000;
/** How long a stop waits for a program that was killed. */
const STOP_MS = 1_000;

/** How a run of the program ended. */
interface End {
  reason: string;
  /** It was ended because it never printed anything. */
  isMute: boolean;
  /** The driver does not know a field that was asked for. */
  isFieldUnknown: boolean;
}

/** Never throws; `dispose` returns within about a second, whatever the program does. */
export function startNvidiaLoop(options: NvidiaLoopOptions): AsyncDisposable {
  const { settings } = options;
  const stopping = new AbortController();
  const { signal } = stopping;

  const keepRunning = async () => {
    let fields = 0;
    let backoffMs = settings.backoffFirstMs;
    while (!signal.aborted) {
      const program = findTool("nvidia-smi", options.path);
      options.onPresence(program !== null);
      if (program === null) {
        await sleep(settings.absentRetryMs, signal);
        continue;
      }
      const since = performance.now();
      const run = { program, fields: GPU_FIELDS[fields] ?? [], options, signal };
      const end = await runOnce(run);
      // What it prints may be held back until it ends, where it does not write to a terminal.
      if (end.isMute) end.reason = (await poll(run)) ?? end.reason;
      if (signal.aborted) return;
      if (end.isFieldUnknown && fields < GPU_FIELDS.length - 1) {
        fields += 1;
        continue;
      }
      options.onProblem(end.reason);
      if (performance.now() - since >= settings.backoffResetMs) backoffMs = settings.backoffFirstMs;
      await sleep(backoffMs, signal);
      backoffMs = Math.min(backoffMs * 2, settings.backoffMaxMs);
    }
  };
  const loop = keepRunning();
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await Promise.race([loop, Bun.sleep(STOP_MS)]);
    },
  };
}

interface Run {
  program: string;
  fields: readonly string[];
  options: NvidiaLoopOptions;
  signal: AbortSignal;
}

/** One run of the program, from its start to when it is gone. */
async function runOnce({ program, fields, options, signal }: Run): Promise<End> {
  const { settings, onRow, onProblem } = options;
  let columns: Column[] | null = null;
  let odd: { line: string; at: number } | null = null;
  let oddLines = 0;
  let killedFor: string | null = null;
  const child = spawn(program, fields, settings);
  if (typeof child === "string") return { reason: child, isMute: false, isFieldUnknown: false };
  // Nothing waits for it at the end of this process: it ends when its output is not read any more.
  child.unref();

  const kill = (reason: string) => {
    killedFor ??= reason;
    killGroup(child.pid);
    // One that hangs in a driver does not end. It is reported, and no other is started beside it.
    onProblem(reason);
  };
  const watchSilence = (ms: number) =>
    setTimeout(() => kill(`nvidia-smi gave no answer in ${formatDuration(ms)}`), ms);
  let watchdog = watchSilence(settings.firstLineMs);
  const onAbort = () => killGroup(child.pid);
  signal.addEventListener("abort", onAbort, { once: true });

  const onLine = (line: string) => {
    if (line.trim() === "" || killedFor !== null) return;
    const header = readHeader(line, fields);
    if (header) {
      columns = header;
      return;
    }
    const row = columns ? readGpuRow(line, columns) : null;
    if (row) {
      onRow(row);
      oddLines = 0;
      // A problem is over once readings pass without such a line.
      if (odd === null || performance.now() - odd.at > 3 * settings.intervalMs) {
        odd = null;
        onProblem(null);
      }
    } else {
      // The first line of several says it, and the version that some print after it does not.
      if (odd === null) onProblem(cleanLine(line, 200).trim());
      odd = { line: odd?.line ?? cleanLine(line, 200).trim(), at: performance.now() };
      oddLines += 1;
      if (oddLines >= MAX_ODD_LINES) kill("nvidia-smi prints something that is not an answer");
    }
  };
  let isMute = true;
  const onText = () => {
    isMute = false;
    clearTimeout(watchdog);
    if (killedFor === null) watchdog = watchSilence(settings.silentMs);
  };
  try {
    const [, errorLine] = await Promise.all([
      eachLine(child.stdout, onLine, onText),
      firstLineOf(child.stderr),
    ]);
    await child.exited;
    const reported = errorLine ?? (odd as { line: string } | null)?.line ?? describeEnd(child);
    return {
      reason: killedFor ?? reported,
      isMute: isMute && killedFor !== null,
      // Source: nvidia-smi: `Field "x" is not a valid field to query.`
      isFieldUnknown: /is not a valid field/i.test(reported),
    };
  } catch (error) {
    killGroup(child.pid);
    return { reason: cleanLine(messageOf(error), 200), isMute: false, isFieldUnknown: false };
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", onAbort);
  }
}

/** One program after the other, each for one reading; returns why that does not go on. */
async function poll({ fields, options, signal }: Run): Promise<string | null> {
  const { settings, path, onRow, onProblem } = options;
  while (!signal.aborted) {
    const answer = await askTool(["nvidia-smi", queryOf(fields), "--format=csv"], {
      timeoutMs: settings.firstLineMs,
      path,
      signal,
    });
    if (answer.outcome === "absent") return null;
    if (answer.outcome === "failed") {
      const { reason } = answer;
      return reason.startsWith("no answer") ? `nvidia-smi gave ${reason}` : reason;
    }
    const [head = "", ...lines] = answer.lines;
    const columns = readHeader(head, fields);
    const rows = columns ? lines.flatMap((line) => readGpuRow(line, columns) ?? []) : [];
    if (rows.length === 0) return cleanLine(head, 200) || "nvidia-smi printed no answer";
    for (const row of rows) onRow(row);
    onProblem(null);
    await sleep(settings.pollMs, signal);
  }
  return null;
}

function queryOf(fields: readonly string[]): string {
  return `--query-gpu=${fields.join(",")}`;
}

/** The running program, or why it does not run. */
function spawn(program: string, fields: readonly string[], settings: NvidiaLoopSettings) {
  try {
    return Bun.spawn(
      [program, queryOf(fields), "--format=csv", "-lms", String(settings.intervalMs)],
      {
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        // A group of its own: a Ctrl-C for this process is none for it.
        detached: true,
      },
    );
  } catch (error) {
    return cleanLine(`nvidia-smi cannot be started: ${messageOf(error)}`, 200);
  }
}

function describeEnd(child: { exitCode: number | null; signalCode: unknown }): string {
  return child.signalCode === null
    ? `nvidia-smi ended with exit code ${child.exitCode ?? "unknown"}`
    : `nvidia-smi was ended by ${child.signalCode}`;
}

async function eachLine(
  stream: ReadableStream<Uint8Array>,
  onLine: (line: string) => void,
  onText?: () => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    onText?.();
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = (lines.pop() ?? "").slice(-MAX_LINE_CHARS);
    for (const line of lines) onLine(line);
  }
  onLine(rest);
}

async function firstLineOf(stream: ReadableStream<Uint8Array>): Promise<string | null> {
  let first: string | null = null;
  await eachLine(stream, (line) => (first ??= cleanLine(line, 200).trim() || null));
  return first;
}
