/** Keeps an engine's program running: starts it, watches it, restarts it, and ends it for good. */

import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import type { HostPort } from "../util/host-port.ts";
import type { Log } from "../util/log.ts";
import { sleep } from "../util/sleep.ts";
import { cleanLine, count } from "../util/text.ts";
import { formatDuration } from "../util/units.ts";
import type { EngineHints } from "./argv.ts";
import { portsOf, reachableHosts } from "./network.ts";
import { refuseTakenPort } from "./port-check.ts";
import { PRESETS } from "./presets/all.ts";
import { processName, type ProcessEntry } from "./proc.ts";
import { describeExit, type EngineCommandLine, type EngineExit } from "./process.ts";
import type { StatusReport } from "./report.ts";
import { decideRestart, MAX_ENDS, type EngineEnd } from "./restart.ts";
import { startRun, type EngineRun } from "./run.ts";
import type { SupervisorSettings } from "./settings.ts";
import { watchEngine } from "./watch.ts";

export interface ChildOptions {
  command: EngineCommandLine;
  hints: EngineHints;
  /** What the user said about the port; null: nothing. */
  port: number | null;
  engineId: string;
  dir: string;
  settings: SupervisorSettings;
  report: StatusReport;
  log: Log;
  onLine: (line: string) => void;
}

/** What supervises an engine until it is stopped. */
export interface EngineKeeper {
  /** Settles after `stop` with what could not be ended, in words; null: nothing is left. */
  readonly done: Promise<string | null>;
}

export interface StopSignals {
  /** End the engine, gracefully. */
  stop: AbortSignal;
  /** End it without grace. */
  force: AbortSignal;
}

/** Longest explanation in a reason. */
const MAX_REASON = 300;
/** Most ports of an unknown program that are asked. */
const MAX_PORTS = 8;
/** What no longer holds once the process has ended. */
export const GONE = { pid: null, url: null, loopbackOnly: null, models: [] };

/** Throws LlmnodeError if the first start fails; then nothing runs. */
export async function keepChild(
  options: ChildOptions,
  signals: StopSignals,
): Promise<EngineKeeper> {
  const first = await begin(options, 0);
  return { done: keep(options, first, signals) };
}

async function keep(
  options: ChildOptions,
  first: EngineRun,
  signals: StopSignals,
): Promise<string | null> {
  const { settings, log } = options;
  const ends: EngineEnd[] = [];
  let run: EngineRun | null = first;
  for (;;) {
    const end: RunEnd = run ? await attend(run, options, signals) : NEVER_RAN;
    if (signals.stop.aborted) return describeLeftovers(end.left);
    if (run && end.left.length > 0) return giveUp(run, end.left, { options, signals });
    ends.push(end);
    ends.splice(0, ends.length - MAX_ENDS);
    const { delayMs } = decideRestart(ends, settings);
    log.info(`engine restarts in ${formatDuration(delayMs)}`);
    await sleep(delayMs, signals.stop);
    if (signals.stop.aborted) return null;
    run = await beginAgain(options);
  }
}

async function begin(options: ChildOptions, restarts: number): Promise<EngineRun> {
  const { hints, report, settings, engineId } = options;
  const port = expectedPort(options);
  if (port !== null) {
    const timeoutMs = settings.connectTimeoutMs;
    await refuseTakenPort(port, { host: hints.host, engineId, timeoutMs });
  }
  const run = await startRun({
    ...options,
    onProgress: (progress) => report.dispatch({ type: "progressed", progress }),
  });
  const { pid } = run.process;
  report.dispatch({ type: "spawned" }, { run: run.id, pid, port, restarts });
  options.log.info("engine started", { pid, kind: hints.kind });
  return run;
}

/** Null if it could not be started; the report then says why. */
async function beginAgain(options: ChildOptions): Promise<EngineRun | null> {
  const { report, log } = options;
  try {
    return await begin(options, report.status().restarts + 1);
  } catch (error) {
    if (!(error instanceof LlmnodeError)) throw error;
    report.dispatch({ type: "crashed", reason: error.message });
    log.warn(`engine not started: ${error.message}`);
    return null;
  }
}

interface RunEnd extends EngineEnd {
  /** Processes that could not be ended. */
  left: readonly ProcessEntry[];
}

const NEVER_RAN: RunEnd = { readyMs: 0, left: [] };

/** Goes with a run from its start until nothing of it is left. */
async function attend(
  run: EngineRun,
  options: ChildOptions,
  { stop, force }: StopSignals,
): Promise<RunEnd> {
  const { report, settings, log } = options;
  await using reading = run;
  const watching = new AbortController();
  const watched = watch(reading, options, watching.signal);
  const exit = await exitOrAbort(run, stop);
  watching.abort();

  const { kind, state, sinceMs } = report.status();
  const readyMs = state === "ready" ? Date.now() - sinceMs : 0;
  const isCrash = exit !== null && !stop.aborted;
  if (isCrash) {
    // An exit that nobody asked for is a crash, whatever its code.
    const line = await run.explain();
    const reason = cleanLine(
      `${describeExit(exit)}${line === null ? "" : `: ${line}`}`,
      MAX_REASON,
    );
    report.dispatch({ type: "crashed", reason }, GONE);
    log.warn(`engine ${reason}`);
  }
  const left = await run.tree.end({
    stopTimeoutMs: isCrash ? 0 : (settings.stopTimeoutMs ?? PRESETS[kind].stopTimeoutMs),
    groupStopTimeoutMs: isCrash ? 0 : settings.groupStopTimeoutMs,
    killTimeoutMs: settings.killTimeoutMs,
    force,
  });
  await watched;
  return { readyMs, left };
}

/** Never starts again over what is left of a run; tries once more to end it when asked to stop. */
async function giveUp(
  run: EngineRun,
  left: readonly ProcessEntry[],
  { options, signals }: { options: ChildOptions; signals: StopSignals },
): Promise<string | null> {
  const reason = (await describeLeftovers(left)) ?? "";
  options.log.error(`engine: ${reason}`);
  options.report.dispatch({ type: "gave_up", reason });
  await aborted(signals.stop);
  const killTimeoutMs = options.settings.groupStopTimeoutMs;
  return describeLeftovers(
    await run.tree.end({ stopTimeoutMs: 0, groupStopTimeoutMs: 0, killTimeoutMs }),
  );
}

async function describeLeftovers(left: readonly ProcessEntry[]): Promise<string | null> {
  if (left.length === 0) return null;
  const named = await Promise.all(
    left.slice(0, 3).map(async ({ pid, state }) => {
      return `pid ${pid} (${(await processName(pid)) ?? "?"}, state ${state})`;
    }),
  );
  const more = left.length > 3 ? ` and ${count(left.length - 3, "other")}` : "";
  return `${named.join(", ")}${more} cannot be ended: GPU or driver hang?`;
}

async function watch(run: EngineRun, options: ChildOptions, signal: AbortSignal): Promise<void> {
  const { hints, report, settings, log } = options;
  const watching = watchEngine(
    {
      kind: hints.kind,
      https: hints.https,
      apiKey: hints.apiKey,
      settings,
      addresses: () => addressesOf(run, options),
      onReady: (engine) => report.dispatch({ type: "answered" }, engine),
      onWell: () => report.dispatch({ type: "answered" }),
      onModels: (models) => report.update({ models }),
      onFailure({ reason, pending }) {
        report.dispatch({ type: "waiting", reason: pending ? null : reason });
        report.dispatch({ type: "missed", reason, limit: settings.failuresUntilUnhealthy });
      },
    },
    signal,
  );
  // A bug: the process is still supervised without it.
  await watching.catch((error: unknown) => log.error(`watching the engine: ${messageOf(error)}`));
}

/** The port that the engine should take; null if only the engine itself can tell. */
function expectedPort({ port, hints, command }: ChildOptions): number | null {
  const named = port ?? hints.port;
  if (named !== null) return named === 0 ? null : named;
  // A configuration file that is named in the command may set another one than the usual.
  const isConfigured = command.argv.some((arg) => /^--config(?:=|$)/.test(arg));
  return isConfigured ? null : PRESETS[hints.kind].defaultPort;
}

/** Where a run may answer: named in words or flags, else printed, else usual, else looked up. */
async function addressesOf(run: EngineRun, options: ChildOptions): Promise<HostPort[]> {
  const { hints } = options;
  const at = (host: string | null, port: number): HostPort[] =>
    reachableHosts(host).map((name) => ({ host: name, port }));
  const named = options.port ?? hints.port;
  if (named !== null && named !== 0) return at(hints.host, named);
  const printed = run.printedAddress();
  if (printed !== null) return at(printed.host, printed.port);
  const usual = expectedPort(options);
  if (usual !== null) return at(hints.host, usual);
  if (hints.kind !== "generic") return [];
  const processes = await run.tree.refresh();
  const ports = await portsOf(processes.map((entry) => entry.pid));
  return ports.slice(0, MAX_PORTS).flatMap((port) => at(hints.host, port));
}

/** The exit of a run's leader, or null if `stop` is aborted before. */
async function exitOrAbort(run: EngineRun, stop: AbortSignal): Promise<EngineExit | null> {
  const over = new AbortController();
  const stopped = aborted(stop, over.signal).then(() => null);
  const exit = await Promise.race([run.process.exited, stopped]);
  // The signal outlives many runs: nothing of this one may stay with it.
  over.abort();
  return exit;
}

function aborted(signal: AbortSignal, over?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), {
      once: true,
      ...(over && { signal: over }),
    });
  });
}
