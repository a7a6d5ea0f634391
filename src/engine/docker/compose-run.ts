/** The run of a compose project: its end, its addresses, its processes, and how it is ended. */

import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import type { LaunchContext, Launched } from "../process/launch.ts";
import type { ProcessEntry } from "../process/proc.ts";
import {
  type ContainerEnd,
  type EngineExit,
  type EngineProcess,
  processUntil,
} from "../process/process.ts";
import { AT_ONCE, trackTree, type EndLimits } from "../process/process-tree.ts";
import type { ComposeCommand } from "./argv/compose-command.ts";
import { type Containers, processesOf, type ContainerSettings } from "./containers.ts";
import { spawnIntoLog } from "./follow-log.ts";
import { addressesOf, isAlive, type ContainerInfo } from "./inspect.ts";
import { createPullReader } from "./pull.ts";
import type { Tool } from "./tool.ts";
import { forgetTrace } from "./trace.ts";

/** The label that every compose puts on what it starts. */
export const PROJECT_LABEL = "com.docker.compose.project";

/** Most addresses of a project that are asked. */
const MAX_ADDRESSES = 16;

export interface Project {
  context: LaunchContext;
  command: ComposeCommand;
  settings: ContainerSettings;
  containers: Containers;
  compose: Tool;
}

/** Goes with the project: it has ended when compose has, and none of its containers runs. */
export function runProject(project: Project, client: EngineProcess): Launched {
  const { context, command, settings } = project;
  const clientTree = trackTree(client, context.engineId);
  const stopping = new AbortController();
  const hostPids = new Set<number>();
  let seen: { infos: ContainerInfo[]; atMs: number } | null = null;
  context.onContainer?.(command.project);

  /** What is known; empty while it is not known. */
  const infosOf = async (maxAgeMs: number): Promise<ContainerInfo[]> => {
    if (seen !== null && performance.now() - seen.atMs < maxAgeMs) return seen.infos;
    seen = { infos: await livingOrNone(project), atMs: performance.now() };
    return seen.infos;
  };
  const findEnd = async (): Promise<EngineExit> => {
    for (let current = client; ; current = await spawnIntoLog(context, attachWords(command))) {
      const exit = await current.exited;
      if (stopping.signal.aborted || !(await infosOf(0)).some(isAlive)) return exit;
      context.log.warn("compose ended, its containers go on: following them again");
      await sleep(settings.pollMs * 5, stopping.signal);
      if (stopping.signal.aborted) return exit;
    }
  };
  const process = processUntil(client.pid, findEnd(), (error) =>
    context.log.error(`following the compose project: ${messageOf(error)}`),
  );
  const hostProcesses = async (infos: readonly ContainerInfo[]): Promise<ProcessEntry[]> => {
    const found = (await Promise.all(infos.filter(isAlive).map(processesOf))).flat();
    for (const { pid } of found) hostPids.add(pid);
    return found;
  };

  return {
    process,
    tree: {
      async refresh() {
        const infos = await infosOf(settings.infoMaxAgeMs);
        return [...(await clientTree.refresh()), ...(await hostProcesses(infos))];
      },
      seen: () => new Set([...clientTree.seen(), ...hostPids]),
      async end(limits: EndLimits) {
        const endedByItself = process.hasExited();
        stopping.abort();
        // What ended by itself stays, for its logs, until the next start.
        const isDead = endedByItself && !(await infosOf(0)).some(isAlive);
        let left = isDead ? [] : await takeDown(project, limits);
        await Promise.race([process.exited, sleep(settings.toolStopMs)]);
        const still = await clientTree.end({ ...limits, ...AT_ONCE });
        // What compose was about to make when it was told to end came after `down` had looked.
        if (!isDead) left = await takeDown(project, { ...limits, stopTimeoutMs: 0 });
        return [...(await hostProcesses(left)), ...still];
      },
    },
    async container() {
      const infos = await infosOf(settings.pollMs);
      const isPaused = infos.some(({ status }) => status === "paused");
      return { isPaused, processes: await hostProcesses(infos) };
    },
    release: () => stopping.abort(),
    readProgress: createPullReader(),
    async addresses(): Promise<HostPort[]> {
      const known = addressesAmong(await infosOf(settings.infoMaxAgeMs));
      // Containers come up one after the other: what has no address yet is soon asked again.
      const found = known.length > 0 ? known : addressesAmong(await infosOf(settings.pollMs));
      return found.slice(0, MAX_ADDRESSES);
    },
    async explainExit(): Promise<ContainerEnd> {
      const infos = await infosOf(0);
      return { tool: command.tool, oomKilled: infos.some((info) => info.oomKilled === true) };
    },
  };
}

/** Of containers that run: where something is published, or else all of them. */
function addressesAmong(infos: readonly ContainerInfo[]): HostPort[] {
  const running = infos.filter(isAlive);
  const published = running.filter((info) => info.published.length > 0);
  const asked = published.length > 0 ? published : running;
  return asked.flatMap((info) => addressesOf(info, null));
}

/** Goes back to a project that runs, without changing it. */
export function attachWords({ compose }: ComposeCommand): string[] {
  return [...compose, "up", "--no-recreate", "--no-build"];
}

/** The project's containers, also those that have ended. Throws LlmnodeError if the tool cannot say. */
export async function listContainers({ containers, command }: Project): Promise<ContainerInfo[]> {
  return containers.labelled(`${PROJECT_LABEL}=${command.project}`);
}

async function livingOrNone(project: Project): Promise<ContainerInfo[]> {
  try {
    return await listContainers(project);
  } catch (error) {
    project.context.log.debug(`finding the project's containers: ${messageOf(error)}`);
    return [];
  }
}

/** Ends the project: removes containers and networks, never volumes. Returns what is left. */
export async function takeDown(
  project: Project,
  { stopTimeoutMs, force }: { stopTimeoutMs: number; force?: AbortSignal },
): Promise<ContainerInfo[]> {
  const { compose, containers, settings, context } = project;
  const seconds = String(Math.ceil(stopTimeoutMs / 1000));
  if (!force?.aborted) {
    await compose(["down", "-t", seconds], {
      timeoutMs: stopTimeoutMs + settings.callTimeoutMs,
      ...(force && { signal: force }),
    });
  }
  const left: ContainerInfo[] = [];
  for (const info of await livingOrNone(project)) {
    const why = await containers.remove(info.id);
    if (why === null) continue;
    context.log.error(`the container ${info.name} cannot be removed: ${why}`);
    left.push(info);
  }
  if (left.length === 0) forgetTrace(context.dir);
  return left;
}
