/** What a worker does with containers of its engine: finding, waiting, stopping, removing. */

import { sleep } from "../../util/sleep.ts";
import { isAlive, readInspect, type ContainerInfo } from "./inspect.ts";
import type { ContainerSettings } from "./settings.ts";
import { toolTrouble, wordsOf, type Tool } from "./tool.ts";

/** How a container was last seen; `unknown`: nobody can tell at present. */
export type Sight = { known: true; info: ContainerInfo | null } | { known: false; why: string };

export interface StopContainer {
  /** How long it may take to end by itself. 0: it is killed at once. */
  timeoutMs: number;
  force?: AbortSignal;
}

export interface Containers {
  /** The tool's name, for messages. */
  readonly tool: string;
  /** All that carry a label, also those that have ended. Throws LlmnodeError if nobody can tell. */
  labelled(label: string): Promise<ContainerInfo[]>;
  /** One container by its id or name; `info` null: there is none. */
  look(id: string): Promise<Sight>;
  /** Settles with the exit code once it has ended; null: not known. */
  waitForEnd(id: string, signal: AbortSignal): Promise<number | null>;
  /** Ends it, gracefully at first. Never throws: look whether it worked. */
  stop(id: string, options: StopContainer): Promise<void>;
  /** Removes it, running or not. Returns in words why it could not; null: it is gone. */
  remove(id: string): Promise<string | null>;
}

const GONE = /no such (?:object|container)|not found|no container with/i;

/** `name`: of the tool. `waiting`: calls the same tool for waits, which may outlive this process. */
export function containersOf(
  { tool, waiting, name }: { tool: Tool; waiting: Tool; name: string },
  settings: ContainerSettings,
): Containers {
  const inspect = async (ids: readonly string[]): Promise<Sight[]> => {
    const answer = await tool(["container", "inspect", ...ids]);
    const found = readInspect(answer.stdout);
    return ids.map((id) => {
      const info = found.find((entry) => entry.id.startsWith(id) || entry.name === id);
      if (info) return { known: true, info };
      const isGone = answer.code === 0 || GONE.test(answer.stderr);
      return isGone ? { known: true, info: null } : { known: false, why: wordsOf(answer, name) };
    });
  };
  const look = async (id: string): Promise<Sight> =>
    (await inspect([id]))[0] ?? { known: false, why: "" };

  const remove = async (id: string): Promise<string | null> => {
    // With the volumes that have no name, as `--rm` does: else each new start would leave some.
    const answer = await tool(["rm", "-f", "-v", id]);
    if (answer.code === 0) return null;
    if (toolTrouble(answer, name)) return wordsOf(answer, name);
    const deadline = AbortSignal.timeout(settings.removeTimeoutMs);
    // The daemon may be at it itself (`--rm`): then it takes a moment.
    for (;;) {
      const sight = await look(id);
      if (sight.known && sight.info === null) return null;
      if (deadline.aborted) return wordsOf(answer, name);
      await sleep(settings.pollMs, deadline);
    }
  };

  return {
    tool: name,
    look,
    remove,
    async labelled(label) {
      const answer = await tool(["ps", "-aq", "--no-trunc", "--filter", `label=${label}`]);
      const trouble = toolTrouble(answer, name);
      if (trouble) throw trouble;
      const ids = answer.stdout.split(/\s+/).filter((id) => /^[0-9a-f]{12,64}$/.test(id));
      if (ids.length === 0) return [];
      const seen = await inspect(ids);
      return seen.flatMap((sight) => (sight.known && sight.info ? [sight.info] : []));
    },
    async waitForEnd(id, signal) {
      for (;;) {
        const answer = await waiting(["wait", id], { timeoutMs: 0, signal });
        const code = /^\d+$/.test(answer.stdout.trim()) ? Number(answer.stdout.trim()) : null;
        if (signal.aborted) return null;
        const sight = await look(id);
        // A daemon that went away says nothing about its containers; one that restarts a
        // container by itself (`--restart`) has not ended it.
        if (sight.known && (sight.info === null || !isAlive(sight.info))) {
          return code ?? sight.info?.exitCode ?? null;
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
