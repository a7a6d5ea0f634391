/** Tells whether a process is a part of an engine: by its mark, its parents, or its container. */

import { readFile } from "node:fs/promises";
import { engineMarkOf, readProcess } from "./proc.ts";

export interface EngineIdentity {
  /** The mark that its processes carry; null for an engine that was not started here. */
  engineId: string | null;
  /** The leading process; null: none, or not known. */
  pid: number | null;
  /** The whole ids of its containers. */
  containers: readonly string[];
}

/** Deeper trees of processes than this are not climbed. */
const MAX_PARENTS = 64;

/** False also for a process that is gone or may not be looked at. Never throws. */
export async function isOfEngine(pid: number, engine: EngineIdentity): Promise<boolean> {
  if (engine.engineId !== null && (await engineMarkOf(pid)) === engine.engineId) return true;
  if (engine.pid !== null && (await descendsFrom(pid, engine.pid))) return true;
  return engine.containers.length > 0 && (await isInContainer(pid, engine.containers));
}

async function descendsFrom(pid: number, ancestor: number): Promise<boolean> {
  let current = pid;
  for (let depth = 0; depth < MAX_PARENTS && current > 1; depth += 1) {
    if (current === ancestor) return true;
    const entry = await readProcess(current);
    if (entry === null) return false;
    current = entry.parent;
  }
  return false;
}

/** A container's processes run in a control group that has its whole id in its name. */
async function isInContainer(pid: number, containers: readonly string[]): Promise<boolean> {
  const groups = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(() => "");
  return inContainers(groups, containers);
}

/** From the text of `/proc/<pid>/cgroup`: `.../docker-<id>.scope`, `/docker/<id>`, and the like. */
export function inContainers(groups: string, containers: readonly string[]): boolean {
  const found = groups.match(/[0-9a-f]{64}/g) ?? [];
  return found.some((id) => containers.includes(id));
}
