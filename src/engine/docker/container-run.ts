/** The life of one container: its end, its addresses, its processes, and how it is ended. */

import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import type { LaunchContext, Launched } from "../process/launch.ts";
import { portsOf } from "../process/network.ts";
import type { ProcessEntry } from "../process/proc.ts";
import type { ContainerEnd, EngineExit, EngineProcess } from "../process/process.ts";
import { trackTree, type EndLimits } from "../process/process-tree.ts";
import type { ContainerCommand } from "./argv/command.ts";
import type { Containers, Sight } from "./containers.ts";
import { followLog, signalTool } from "./follow-log.ts";
import { processesOf } from "./host-processes.ts";
import { ENGINE_LABEL } from "./argv/inject.ts";
import { addressesOf, isAlive, type ContainerInfo } from "./inspect.ts";
import { createPullReader } from "./pull.ts";
import type { ContainerSettings } from "./settings.ts";
import { forgetTrace } from "./trace.ts";

export interface ContainerRunOptions {
  context: LaunchContext;
  command: ContainerCommand;
  containers: Containers;
  settings: ContainerSettings;
  /** The port of the engine inside; null: not known. */
  containerPort: number | null;
  /** The tool's process, which stays with the container unless it was told to detach. */
  client: EngineProcess;
  cidfile: string;
  /** The container's id where it is known already. */
  id: string | null;
  /** Whether `client` still writes what the container prints. */
  isAttached: boolean;
  pullsImage: boolean;
}

/** For the tool's processes once the container is gone: nothing depends on them any more. */
const AT_ONCE = { stopTimeoutMs: 0, interruptTimeoutMs: 0, groupStopTimeoutMs: 0 };

/**
 * Goes with the container from here on. It is ours as long as it lives, whatever becomes of the
 * tool's process: the run ends when the container does.
 */
export function runContainer(options: ContainerRunOptions): Launched {
  const { context, command, containers, settings, containerPort, client } = options;
  const { log } = context;
  const { tool } = containers;
  const clientTree = trackTree(client, context.engineId);
  /** Aborted when it is asked to end: what nobody can tell is not waited for any more. */
  const stopping = new AbortController();
  /** Aborted when it has been ended. */
  const over = new AbortController();
  let id = options.id;
  let seen: { info: ContainerInfo | null; atMs: number } | null = null;
  let hasEnded = false;
  const hostPids = new Set<number>();

  const findId = async (): Promise<string | null> => {
    if (id !== null) return id;
    const text = await readFile(options.cidfile, "utf8").catch(() => "");
    id = /^[0-9a-f]{12,64}$/.exec(text.trim())?.[0] ?? null;
    if (id !== null) context.onContainer?.(command.name ?? id.slice(0, 12));
    return id;
  };
  /** What is known of the container; null: it is gone, or nothing is known. */
  const look = async (maxAgeMs: number): Promise<ContainerInfo | null> => {
    if (seen !== null && performance.now() - seen.atMs < maxAgeMs) return seen.info;
    const found = await findId();
    if (found === null) return null;
    const sight = await containers.look(found);
    if (sight.known) seen = { info: sight.info ?? seen?.info ?? null, atMs: performance.now() };
    return sight.known ? sight.info : null;
  };

  const waitUntilKnown = async (found: string): Promise<ContainerInfo | null> => {
    for (let isTold = false; ; isTold = true) {
      const sight = await containers.look(found);
      if (sight.known) {
        if (sight.info) seen = { info: sight.info, atMs: performance.now() };
        return sight.info;
      }
      if (!isTold) log.warn(`nobody knows whether the container runs: ${sight.why}`);
      await sleep(settings.pollMs * 5, stopping.signal);
      if (stopping.signal.aborted) return null;
    }
  };
  const follow = async (found: string, since: Date | null): Promise<EngineExit> => {
    const logging = new AbortController();
    const following = followLog(
      {
        context,
        argv: (from) => {
          const range = from === null ? [] : ["--since", from.toISOString()];
          return [...command.prefix, "logs", "-f", ...range, found];
        },
        since,
        pollMs: settings.pollMs,
        async look() {
          const sight = await containers.look(found);
          if (!sight.known) return "unknown";
          if (sight.info === null) return "gone";
          return isAlive(sight.info) ? "running" : "ended";
        },
      },
      logging.signal,
    ).catch((error: unknown) => log.error(`following the container's log: ${messageOf(error)}`));
    const code = await containers.waitForEnd(found, over.signal);
    await Promise.race([following, sleep(settings.toolStopMs)]);
    logging.abort();
    await following;
    return { code, signal: null };
  };
  const findEnd = async (): Promise<EngineExit> => {
    if (!options.isAttached && id !== null) return follow(id, await lastWritten(context.dir));
    while (!client.hasExited() && (await findId()) === null) {
      await Promise.race([client.exited, sleep(settings.pollMs, stopping.signal)]);
      if (stopping.signal.aborted) break;
    }
    const exit = await client.exited;
    const found = await findId();
    if (found === null || stopping.signal.aborted) return exit;
    const info = await waitUntilKnown(found);
    if (info !== null && isAlive(info)) {
      if (command.detached && exit.code === 0) return follow(found, null);
      log.warn(`the ${tool} client ended, the container goes on`, { container: info.name });
      return follow(found, await lastWritten(context.dir));
    }
    const isOwn = exit.code !== null && !(command.detached && exit.code === 0);
    return isOwn ? exit : { code: info?.exitCode ?? null, signal: null };
  };
  const exited = findEnd()
    .catch((error: unknown): EngineExit => {
      log.error(`following the container: ${messageOf(error)}`);
      return { code: null, signal: null };
    })
    .then((exit) => {
      hasEnded = true;
      return exit;
    });

  const hostProcesses = async (): Promise<ProcessEntry[]> => {
    const info = await look(settings.infoMaxAgeMs);
    const found = info === null ? [] : await processesOf(info);
    for (const { pid } of found) hostPids.add(pid);
    return found;
  };

  /** What was created but does not run yet would miss the request to stop. */
  const lookOnceStarted = async (found: string): Promise<Sight> => {
    const deadline = AbortSignal.timeout(settings.createdMaxMs);
    for (;;) {
      const sight = await containers.look(found);
      const isWaiting = sight.known && sight.info?.status === "created" && !client.hasExited();
      if (!isWaiting || deadline.aborted) return sight;
      await sleep(settings.pollMs, deadline);
    }
  };
  /** Still pulling, or about to create it: the one signal that the client ever gets. */
  const cancelClient = async ({ force }: EndLimits) => {
    if (!force?.aborted) signalTool(client.pid, "SIGTERM");
    const deadline = AbortSignal.timeout(settings.toolStopMs);
    while (!client.hasExited() && !deadline.aborted && (await findId()) === null) {
      await Promise.race([client.exited, sleep(settings.pollMs, deadline)]);
    }
  };
  const endContainer = async (
    found: string,
    { stopTimeoutMs, force }: EndLimits,
    { endedByItself }: { endedByItself: boolean },
  ): Promise<ProcessEntry[]> => {
    const sight = await lookOnceStarted(found);
    const info = sight.known ? sight.info : null;
    if (info !== null && isAlive(info)) {
      await hostProcesses();
      await containers.stop(found, { timeoutMs: stopTimeoutMs, ...(force && { force }) });
    } else if (info !== null && endedByItself && !command.rm) {
      // Kept, for its log, until the next start.
      return [];
    }
    const why = sight.known && info === null ? null : await containers.remove(found);
    if (why === null) {
      forgetTrace(context.dir);
      return [];
    }
    log.error(`the container ${found.slice(0, 12)} cannot be removed: ${why}`);
    return hostProcesses();
  };
  /** The daemon may have made one after the client had given up on it. */
  const removeUnseen = async () => {
    try {
      const found = await containers.labelled(`${ENGINE_LABEL}=${context.engineId}`);
      for (const info of found) await containers.remove(info.id);
      forgetTrace(context.dir);
    } catch (error) {
      log.warn(`a container may be left: ${messageOf(error)}`);
    }
  };
  const end = async (limits: EndLimits): Promise<ProcessEntry[]> => {
    const endedByItself = hasEnded;
    stopping.abort();
    if ((await findId()) === null && !client.hasExited()) await cancelClient(limits);
    const found = await findId();
    const left = found === null ? [] : await endContainer(found, limits, { endedByItself });
    over.abort();
    await Promise.race([exited, sleep(settings.toolStopMs)]);
    const still = await clientTree.end({ ...limits, ...AT_ONCE });
    if (found === null) await removeUnseen();
    return [...left, ...still];
  };

  return {
    process: { pid: client.pid, exited, hasExited: () => hasEnded },
    tree: {
      async refresh() {
        return [...(await clientTree.refresh()), ...(await hostProcesses())];
      },
      seen: () => new Set([...clientTree.seen(), ...hostPids]),
      end,
    },
    release() {
      stopping.abort();
      over.abort();
    },
    async container() {
      const info = await look(settings.pollMs);
      return { isPaused: info?.status === "paused", processes: await hostProcesses() };
    },
    ...(options.pullsImage && { firstPhase: "pull" as const }),
    readProgress: createPullReader(),
    async addresses(): Promise<HostPort[]> {
      const known = await look(settings.infoMaxAgeMs);
      // What does not run yet, or has no port yet, is soon looked at again.
      const isUp = known !== null && isAlive(known) && hasAddress(known);
      const info = isUp ? known : await look(settings.pollMs);
      if (info === null || !isAlive(info)) return [];
      const shared = /^container:(.+)$/.exec(info.networkMode)?.[1];
      if (shared !== undefined) {
        const sight = await containers.look(shared);
        return sight.known && sight.info ? addressesOf(sight.info, containerPort) : [];
      }
      if (info.networkMode !== "host" || containerPort !== null) {
        return addressesOf(info, containerPort);
      }
      const ports = await portsOf((await processesOf(info)).map((entry) => entry.pid));
      return ports.slice(0, 8).map((port) => ({ host: "127.0.0.1", port }));
    },
    async explainExit(): Promise<ContainerEnd> {
      const info = await look(0);
      return { tool, oomKilled: info !== null && !isAlive(info) ? info.oomKilled : null };
    },
  };
}

function hasAddress({ networkMode, published, addresses }: ContainerInfo): boolean {
  return published.length > 0 || addresses.length > 0 || networkMode === "host";
}

/** When the engine's log was last written to: what came before is in it. */
async function lastWritten(dir: string): Promise<Date | null> {
  return (await stat(join(dir, "engine.log")).catch(() => null))?.mtime ?? null;
}
