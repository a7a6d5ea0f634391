/** Finds what an earlier run of the worker left running: adopts it, or ends it. */

import { count } from "../../util/text.ts";
import { type Holder, waitForRelease } from "../process/leftovers.ts";
import { PRESETS } from "../presets/all.ts";
import { bootId, markedProcesses, processName } from "../process/proc.ts";
import { adoptProcess, goneProcess } from "../process/process.ts";
import { type ProcessTree, trackTree } from "../process/process-tree.ts";
import { isRecorded, readRecord, type RunRecord } from "../process/record.ts";
import type { PreparedEngine } from "./prepare.ts";
import { adoptRun, type EngineRun } from "./run.ts";

export type Found =
  /** Nothing is left, or nothing any more. */
  | { type: "nothing" }
  | { type: "engine"; run: EngineRun; record: RunRecord }
  /** It cannot be ended. */
  | { type: "stuck"; tree: ProcessTree; holders: Holder[] };

const MAX_NAMED = 5;

export async function findEarlier(engine: PreparedEngine, force: AbortSignal): Promise<Found> {
  // Without /proc it is not known whose a process is.
  if (bootId() === "") return { type: "nothing" };
  const { log } = engine;
  const record = readRecord(engine.dir);
  if (record !== null && mayAdopt(record, engine)) {
    const run = await adoptRun(engine, record);
    if (run !== null) {
      log.info("adopted the running engine", { pid: run.launched.process.pid });
      return { type: "engine", run, record };
    }
  }
  const found = await endEarlier(engine, record, force);
  const removed = (await engine.launcher.removeLeftovers?.(engine)) ?? [];
  if (removed.length > 0) {
    log.warn("removed leftovers of an earlier run of this worker", { what: removed.join(", ") });
  }
  if (found.type === "nothing" && record !== null) engine.record.remove();
  return found;
}

function mayAdopt(record: RunRecord, { rules, engineId, commandHash }: PreparedEngine): boolean {
  const isSame = record.engine_id === engineId && record.command_hash === commandHash;
  return rules.adopt && isSame && !record.ending;
}

/** Ends the recorded process and whatever carries the engine's mark, gracefully at first. */
async function endEarlier(
  engine: PreparedEngine,
  record: RunRecord | null,
  force: AbortSignal,
): Promise<Found> {
  const { engineId, settings, log } = engine;
  const isHere = record !== null && (await isRecorded(record, engineId));
  const strays = await markedProcesses(engineId);
  if (!isHere && strays.length === 0) return { type: "nothing" };
  const named = await Promise.all(
    strays
      .slice(0, MAX_NAMED)
      .map(async ({ pid }) => `pid ${pid} (${(await processName(pid)) ?? "?"})`),
  );
  const more = strays.length - named.length;
  if (more > 0) named.push(count(more, "other"));
  log.warn("ending leftovers of an earlier run of this worker", { processes: named.join(", ") });

  const leader = isHere ? adoptProcess(record, settings.adoptedPollMs) : goneProcess(NO_PID);
  const tree = trackTree(leader, engineId);
  const preset = Object.values(PRESETS).find(({ kind }) => kind === record?.kind);
  const processes = await tree.end({
    stopTimeoutMs: settings.stopTimeoutMs ?? (preset ?? PRESETS.generic).stopTimeoutMs,
    interruptTimeoutMs: settings.interruptTimeoutMs,
    groupStopTimeoutMs: settings.groupStopTimeoutMs,
    killTimeoutMs: settings.killTimeoutMs,
    force,
  });
  const holders = await waitForRelease({
    ...releaseOptions(engine),
    processes,
    seen: tree.seen(),
    address: isHere ? record.address : null,
    force,
  });
  return holders.length > 0 ? { type: "stuck", tree, holders } : { type: "nothing" };
}

// No process, group or session has this number.
const NO_PID = -1;

/** What `waitForRelease` takes from the engine's options. */
export function releaseOptions({ engineId, computeProcesses, settings }: PreparedEngine) {
  return {
    engineId,
    computeProcesses,
    timeoutMs: settings.killTimeoutMs,
    pollMs: settings.releasePollMs,
    connectTimeoutMs: settings.connectTimeoutMs,
  };
}
