/** What a worker does with containers of its engine: finding, waiting, stopping, removing. */

import { readFile } from "node:fs/promises";
import { sleep } from "../../util/sleep.ts";
import { listProcesses, type ProcessEntry } from "../process/proc.ts";
import { isAlive, readInspect, type ContainerInfo } from "./inspect.ts";
import { toolTrouble, wordsOf, type Tool } from "./tool.ts";

/** Intervals and limits of engines in containers. */
export const CONTAINER_DEFAULTS = {
  /** Between two looks for what is about to happen: an id that is written, a removal. */
  pollMs: 200,
  /** Longest wait for an answer of the container tool. */
  callTimeoutMs: 15_000,
  /** How long what is known of a running container may be used before it is looked at again. */
  infoMaxAgeMs: 10_000,
  /** How long a container that was created may take to run, before a stop takes it as it is. */
  createdMaxMs: 5_000,
  /** How long the removal of a container may take. */
  removeTimeoutMs: 10_000,
  /** How long a tool that was told to stop may take, before it is killed. */
  toolStopMs: 3_000,
};

export type ContainerSettings = typeof CONTAINER_DEFAULTS;

/** What is known of a container; not `known`: the tool cannot say at present. */
export type Inspection =
  { known: true; info: ContainerInfo | null } | { known: false; why: string };

export interface Containers {
  /** The tool's name, for messages. */
  readonly tool: string;
  /** All that carry a label, also those that have ended. Throws LlmnodeError if the tool cannot say. */
  labelled(label: string): Promise<ContainerInfo[]>;
  /** One container by its id or name; `info` null: there is none. */
  inspect(id: string): Promise<Inspection>;
  /** Settles with the exit code once it has ended; null: not known. */
  waitForEnd(id: string, signal: AbortSignal): Promise<number | null>;
  /** Ends it, gracefully at first; `timeoutMs` 0: at once. Never throws: inspect whether it worked. */
  stop(id: string, options: { timeoutMs: number; force?: AbortSignal }): Promise<void>;
  /** Removes it, running or not. Returns in words why it could not; null: it is gone. */
  remove(id: string): Promise<string | null>;
}

const GONE = /no such (?:object|container)|not found|no container with/i;

/** `name`: of the tool. `waiting`: calls the same tool for waits, which may outlive this process. */
export function containersOf(
  { tool, waiting = tool, name }: { tool: Tool; waiting?: Tool; name: string },
  settings: ContainerSettings,
): Containers {
  const inspectAll = async (ids: readonly string[]): Promise<Inspection[]> => {
    const answer = await tool(["container", "inspect", ...ids]);
    const found = readInspect(answer.stdout);
    return ids.map((id) => {
      const info = found.find((entry) => entry.id.startsWith(id) || entry.name === id);
      if (info) return { known: true, info };
      const isGone = answer.code === 0 || GONE.test(answer.stderr);
      return isGone ? { known: true, info: null } : { known: false, why: wordsOf(answer, name) };
    });
  };
  const inspect = async (id: string): Promise<Inspection> =>
    (await inspectAll([id]))[0] ?? { known: false, why: "" };

  const remove = async (id: string): Promise<string | null> => {
    // With the volumes that have no name, as `--rm` does: else each new start would leave some.
    const answer = await tool(["rm", "-f", "-v", id]);
    if (answer.code === 0) return null;
    if (toolTrouble(answer, name)) return wordsOf(answer, name);
    const deadline = AbortSignal.timeout(settings.removeTimeoutMs);
    // The daemon may be at it itself (`--rm`): then it takes a moment.
    for (;;) {
      const found = await inspect(id);
      if (found.known && found.info === null) return null;
      if (deadline.aborted) return wordsOf(answer, name);
      await sleep(settings.pollMs, deadline);
    }
  };

  return {
    tool: name,
    inspect,
    remove,
    async labelled(label) {
      const answer = await tool(["ps", "-aq", "--no-trunc", "--filter", `label=${label}`]);
      const trouble = toolTrouble(answer, name);
      if (trouble) throw trouble;
      const ids = answer.stdout.split(/\s+/).filter((id) => /^[0-9a-f]{12,64}$/.test(id));
      if (ids.length === 0) return [];
      const seen = await inspectAll(ids);
      return seen.flatMap((found) => (found.known && found.info ? [found.info] : []));
    },
    async waitForEnd(id, signal) {
      for (;;) {
        const answer = await waiting(["wait", id], { timeoutMs: 0, signal });
        const code = /^\d+$/.test(answer.stdout.trim()) ? Number(answer.stdout.trim()) : null;
        if (signal.aborted) return null;
        const found = await inspect(id);
        // A daemon that went away says nothing about its containers; one that restarts a
        // container by itself (`--restart`) has not ended it.
        if (found.known && (found.info === null || !isAlive(found.info))) {
          return code ?? found.info?.exitCode ?? null;
        }
        await sleep(settings.pollMs, signal);
        if (signal.aborted) return null;
      }
    },
    async stop(id, { timeoutMs, force }) {
      const seconds = Math.ceil(timeoutMs / 1000);
      const limit = { timeoutMs: timeoutMs + settings.callTimeoutMs };
      const signal = force ? { ...limit, signal: force } : limit;
      if (timeoutMs > 0 && !force?.aborted) await tool(["stop", "-t", String(seconds), id], signal);
    },
  };
}

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
