/** Polls an engine while it starts: shows its download, and ends the wait when nothing moves. */

import { sleep } from "../../util/sleep.ts";
import { formatDuration } from "../../util/units.ts";
import { cacheFolders, modelFolders, watchCache, type CacheGrowth } from "../ask/cache-growth.ts";
import { processorMs } from "../process/proc.ts";
import type { Failure } from "../failure.ts";
import { describeStall, explainFailure } from "../diagnose/reasons.ts";
import type { StatusReport } from "../report.ts";
import type { PreparedEngine } from "./prepare.ts";
import type { EngineRun } from "./run.ts";

/** A cache that grew by less shows no download: small files are written at any time. */
const MIN_DOWNLOAD_BYTES = 1024 * 1024;

/**
 * Settles with null when the engine is ready or `signal` aborts, or with the failure when the start
 * made no progress for `startTimeoutMs`: no new line, no other phase, no growth of the model cache,
 * no processor time. Ending the engine then is left to the caller.
 */
export async function watchStart(
  engine: PreparedEngine,
  run: Pick<EngineRun, "launched" | "output">,
  signal: AbortSignal,
): Promise<Failure | null> {
  const { report, settings, command, argvFacts } = engine;
  const folders = cacheFolders(argvFacts.kind, command);
  const cache = watchCache(folders, modelFolders(command.argv));
  let mark: StartMark | null = null;
  let cacheBytes = 0;
  while (!signal.aborted && report.status().state === "starting") {
    cacheBytes = await showDownload(cache, cacheBytes, report);
    const cpuMs = await processorMs((await run.launched.tree.refresh()).map((entry) => entry.pid));
    const { phase } = report.status();
    const sample = { atMs: performance.now(), lines: run.output().count, phase, cacheBytes, cpuMs };
    mark = noteStart(mark, sample);
    const idleMs = stalledMs(mark);
    if (settings.startTimeoutMs > 0 && idleMs >= settings.startTimeoutMs) {
      if (signal.aborted || report.status().state !== "starting") return null;
      return explainStall(engine, run.output().lines, idleMs);
    }
    await sleep(settings.startCheckMs, signal);
  }
  return null;
}

/** What the cache has grown by since the start; shown where the engine tells no more than that. */
async function showDownload(
  cache: CacheGrowth,
  before: number,
  report: StatusReport,
): Promise<number> {
  if (!mayDownload(report)) return before;
  const bytes = await cache.measure();
  // Asked again: meanwhile the engine may have said that it is further.
  if (bytes > before && bytes >= MIN_DOWNLOAD_BYTES && mayDownload(report)) {
    const progress = { phase: "download" as const, percent: null, bytes };
    report.dispatch({ type: "progressed", progress });
  }
  return Math.max(before, bytes);
}

/** Whether it has said nothing yet that comes after the download. */
function mayDownload(report: StatusReport): boolean {
  const condition = report.condition();
  if (condition.state !== "starting") return false;
  const { phase = "spawn", percent = null } = condition.progress ?? {};
  return phase !== "compile" && phase !== "warmup" && percent === null;
}

function explainStall(
  { argvFacts, report }: PreparedEngine,
  lines: readonly string[],
  idleMs: number,
): Failure {
  const { phase } = report.status();
  const { kind } = argvFacts;
  const where = phase === null ? "" : `, in phase ${phase}`;
  const why = `none for ${formatDuration(idleMs)}${where}`;
  const stall = describeStall("start_timeout", why, { kind, lines });
  // It may have said why it hangs: a download that is tried again and again, a dead child.
  const cause = explainFailure({ kind, lines, exit: null, container: null });
  if (cause === null) return stall;
  return { ...cause, reason: `${cause.reason} (${stall.reason})`, deterministic: false };
}

// Whether a start still makes progress, from two samples of it: pure.

/** What can be seen of an engine that starts. */
export interface StartSample {
  /** In ms, on any clock that only goes forward. */
  atMs: number;
  /** Lines that it has printed so far. */
  lines: number;
  /** Its phase as shown, with its percentage or size. */
  phase: string | null;
  /** What its model cache has grown by. */
  cacheBytes: number;
  /** Processor time that its processes have used so far; null where it is not known. */
  cpuMs: number | null;
}

export interface StartMark {
  sample: StartSample;
  /** When it last made progress, on the clock of the samples. */
  progressAtMs: number;
}

/** The share of a core that counts as work: a program that only waits uses less. */
const BUSY_SHARE = 0.05;

/** The mark after one more look; `before` is null at the first. */
export function noteStart(before: StartMark | null, sample: StartSample): StartMark {
  if (before === null || hasProgress(before.sample, sample)) {
    return { sample, progressAtMs: sample.atMs };
  }
  return { sample, progressAtMs: before.progressAtMs };
}

/** How long there has been no progress. */
export function stalledMs({ sample, progressAtMs }: StartMark): number {
  return sample.atMs - progressAtMs;
}

function hasProgress(before: StartSample, now: StartSample): boolean {
  if (now.lines !== before.lines || now.phase !== before.phase) return true;
  if (now.cacheBytes > before.cacheBytes) return true;
  if (now.cpuMs === null || before.cpuMs === null) return false;
  return now.cpuMs - before.cpuMs >= BUSY_SHARE * (now.atMs - before.atMs);
}
