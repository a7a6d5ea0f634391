/** The processes of a container as this machine's kernel sees them. */

import { readFile } from "node:fs/promises";
import { listProcesses, type ProcessEntry } from "../process/proc.ts";
import type { ContainerInfo } from "./inspect.ts";

/**
 * The container's first process and all its descendants; empty where they are not to be seen: the
 * daemon is on another machine or in a virtual one, or the container has ended.
 */
export async function processesOf({ id, pid }: ContainerInfo): Promise<ProcessEntry[]> {
  if (pid <= 1) return [];
  // The number is the daemon's: here it may be another process's. Its cgroup is named after it.
  const cgroup = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  if (!cgroup.includes(id)) return [];
  const all = await listProcesses();
  const found = new Map<number, ProcessEntry>();
  for (let before = -1; before !== found.size;) {
    before = found.size;
    for (const entry of all) {
      if (entry.pid === pid || found.has(entry.parent)) found.set(entry.pid, entry);
    }
  }
  return [...found.values()].filter((entry) => entry.state !== "Z");
}
