/** Looks at an engine while it starts: shows its download, and ends the wait when nothing moves. */

import { sleep } from "../../util/sleep.ts";
import { formatDuration } from "../../util/units.ts";
import type { ArgvFacts } from "../argv/argv.ts";
import { cacheFolders, modelFolders, watchCache, type CacheGrowth } from "../ask/cache-growth.ts";
import { processorMs } from "../process/cpu-time.ts";
import type { Failure } from "../failure.ts";
import type { EngineCommandLine } from "../process/process.ts";
import type { ProcessTree } from "../process/process-tree.ts";
import { explainFailure } from "../diagnose/reasons.ts";
import { collectEvidence } from "../diagnose/evidence.ts";
import { CLASSES } from "../diagnose/rules.ts";
import type { StatusReport } from "../report.ts";
import type { SupervisorSettings } from "./settings.ts";
import { noteStart, stalledMs, type StartMark } from "./start-limit.ts";

export interface StartWatchOptions {
  /** What the run has printed last, and how many lines in all. */
  output: () => { lines: readonly string[]; count: number };
  tree: ProcessTree;
  command: EngineCommandLine;
  hints: ArgvFacts;
  report: StatusReport;
  settings: Pick<SupervisorSettings, "startTimeoutMs" | "startCheckMs">;
}

/** A cache that grew by less shows no download: small files are written at any time. */
const MIN_DOWNLOAD_BYTES = 1024 * 1024;

/**
 * Settles with null when the engine is ready or `signal` aborts, or with the failure when the start
 * made no progress for `startTimeoutMs`: no new line, no other phase, no growth of the model cache,
 * no processor time. Ending the engine then is left to the caller.
 */
export async function watchStart(
  options: StartWatchOptions,
  signal: AbortSignal,
): Promise<Failure | null> {
  const { report, settings, command, hints, tree, output } = options;
  const folders = cacheFolders(hints.kind, command);
  const cache = watchCache(folders, modelFolders(command.argv));
  let mark: StartMark | null = null;
  let cacheBytes = 0;
  while (!signal.aborted && report.status().state === "starting") {
    cacheBytes = await showDownload(cache, cacheBytes, report);
    const cpuMs = await processorMs((await tree.refresh()).map((entry) => entry.pid));
    const { phase } = report.status();
    const sample = { atMs: performance.now(), lines: output().count, phase, cacheBytes, cpuMs };
    mark = noteStart(mark, sample);
    const idleMs = stalledMs(mark);
    if (settings.startTimeoutMs > 0 && idleMs >= settings.startTimeoutMs) {
      if (signal.aborted || report.status().state !== "starting") return null;
      return describeStall(options, idleMs);
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
  // Looked at anew: meanwhile the engine may have said that it is further.
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

function describeStall({ output, hints, report }: StartWatchOptions, idleMs: number): Failure {
  const { lines } = output();
  const { phase } = report.status();
  const where = phase === null ? "" : `, in phase ${phase}`;
  // It may have said why it hangs: a download that is tried again and again, a dead child.
  const cause = explainFailure({ kind: hints.kind, lines, exit: null, container: null });
  const words = `${CLASSES.start_timeout.words}: none for ${formatDuration(idleMs)}${where}`;
  return {
    failure: cause?.failure ?? "start_timeout",
    reason: cause === null ? words : `${cause.reason} (${words})`,
    hint:
      cause?.hint ??
      "if it only needs longer, raise --start-timeout; the log shows where it stands",
    deterministic: false,
    evidence: cause?.evidence ?? collectEvidence(lines, null),
  };
}
