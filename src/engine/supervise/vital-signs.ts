/** Looks at an engine's processes for signs that they still do anything; Linux only. */

import type { Launched } from "../process/launch.ts";
import { portsOf } from "../process/network.ts";
import { type ProcessEntry, processorMs, readProcess } from "../process/proc.ts";

export interface VitalSigns {
  /** Why it can do nothing at present, in words; null: it could. */
  stopped: string | null;
  /**
   * Processor time that all its processes have used so far, in ms; null where it is not known that
   * those that are seen are the engine: behind `ssh` or a remote daemon it runs elsewhere.
   */
  cpuMs: number | null;
  processes: number;
  /** Whether one of them waits for a disk or a network file system. */
  isReading: boolean;
}

/** `port`: where the engine answers on this machine; null: not known. */
export async function readVitalSigns(
  { process, tree, container }: Launched,
  port: number | null,
): Promise<VitalSigns> {
  const inside = (await container?.()) ?? null;
  const entries = inside?.processes ?? (await tree.refresh());
  const leader = inside === null ? await readProcess(process.pid) : null;
  const pids = entries.map(({ pid }) => pid);
  const listens = async () => port !== null && (await portsOf(pids)).includes(port);
  const isSeen = inside === null ? await listens() : entries.length > 0;
  return {
    stopped: inside?.isPaused === true ? "its container is paused" : whyStopped(entries, leader),
    cpuMs: isSeen ? await processorMs(pids) : null,
    processes: entries.length,
    isReading: entries.some(({ state }) => state === "D"),
  };
}

/** A zombie counts only as leader: children that nobody waits for are common, and mean nothing. */
export function whyStopped(
  entries: readonly ProcessEntry[],
  leader: ProcessEntry | null,
): string | null {
  if (leader?.state === "Z") return `its process ${leader.pid} is a zombie`;
  const stopped = [...(leader ? [leader] : []), ...entries].find(({ state }) => state === "T");
  return stopped ? `its process ${stopped.pid} is stopped` : null;
}
