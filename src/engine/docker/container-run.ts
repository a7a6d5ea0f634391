/** The run of one container: its end, its addresses, its processes, and how it is ended. */

import { readFile } from "node:fs/promises";
import { messageOf } from "../../protocol/errors.ts";
import type { HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import type { LaunchContext, Launched } from "../process/launch.ts";
import { portsOf } from "../process/network.ts";
import type { ProcessEntry } from "../process/proc.ts";
import {
  type ContainerEnd,
  type EngineExit,
  type EngineProcess,
  processUntil,
} from "../process/process.ts";
import { AT_ONCE, send, trackTree, type EndLimits } from "../process/process-tree.ts";
import type { ContainerCommand } from "./argv/command.ts";
import {
  type Containers,
  type Inspection,
  processesOf,
  type ContainerSettings,
} from "./containers.ts";
import { followLog, lastWritten } from "./follow-log.ts";
import { ENGINE_LABEL } from "./argv/inject.ts";
import { addressesOf, hasAddress, isAlive, type ContainerInfo } from "./inspect.ts";
import { createPullReader } from "./pull.ts";
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

/** What is known of the run so far. */
interface Running extends ContainerRunOptions {
  /** Aborted when it is asked to end: what is not known is not waited for any more. */
  stopping: AbortController;
  /** Aborted when it has been ended. */
  over: AbortController;
  /** What was last known of the container; `info` null: it is gone. */
  seen: { info: ContainerInfo | null; atMs: number } | null;
  /** Every process that was seen in it. */
  hostPids: Set<number>;
}

/** The run ends when the container does, whatever becomes of the tool's process. */
export function runContainer(options: ContainerRunOptions): Launched {
  const { context, containers, settings, client } = options;
  const run: Running = {
    ...options,
    stopping: new AbortController(),
    over: new AbortController(),
    seen: null,
    hostPids: new Set(),
  };
  const clientTree = trackTree(client, context.engineId);
  const process = processUntil(client.pid, findEnd(run), (error) =>
    context.log.error(`following the container: ${messageOf(error)}`),
  );

  return {
    process,
    tree: {
      async refresh() {
        return [...(await clientTree.refresh()), ...(await hostProcesses(run))];
      },
      seen: () => new Set([...clientTree.seen(), ...run.hostPids]),
      async end(limits) {
        const { left, isUnseen } = await endRun(run, {
          ...limits,
          endedByItself: process.hasExited(),
        });
        run.over.abort();
        await Promise.race([process.exited, sleep(settings.toolStopMs)]);
        const still = await clientTree.end({ ...limits, ...AT_ONCE });
        if (isUnseen) await removeUnseen(run);
        return [...left, ...still];
      },
    },
    release() {
      run.stopping.abort();
      run.over.abort();
    },
    async container() {
      const info = await infoOf(run, settings.pollMs);
      return { isPaused: info?.status === "paused", processes: await hostProcesses(run) };
    },
    ...(options.pullsImage && { firstPhase: "pull" as const }),
    readProgress: createPullReader(),
    addresses: () => findAddresses(run),
    async explainExit(): Promise<ContainerEnd> {
      const info = await infoOf(run, 0);
      const oomKilled = info !== null && !isAlive(info) ? info.oomKilled : null;
      return { tool: containers.tool, oomKilled };
    },
  };
}

async function findId(run: Running): Promise<string | null> {
  if (run.id !== null) return run.id;
  const text = await readFile(run.cidfile, "utf8").catch(() => "");
  const id = /^[0-9a-f]{12,64}$/.exec(text.trim())?.[0] ?? null;
  run.id = id;
  if (id !== null) run.context.onContainer?.(run.command.name ?? id.slice(0, 12));
  return id;
}

/** What is known of the container; null: it is gone, or nothing is known. */
async function infoOf(run: Running, maxAgeMs: number): Promise<ContainerInfo | null> {
  if (run.seen !== null && performance.now() - run.seen.atMs < maxAgeMs) return run.seen.info;
  const id = await findId(run);
  if (id === null) return null;
  const found = await run.containers.inspect(id);
  if (!found.known) return null;
  run.seen = { info: found.info ?? run.seen?.info ?? null, atMs: performance.now() };
  return found.info;
}

async function hostProcesses(run: Running): Promise<ProcessEntry[]> {
  const info = await infoOf(run, run.settings.infoMaxAgeMs);
  const found = info === null ? [] : await processesOf(info);
  for (const { pid } of found) run.hostPids.add(pid);
  return found;
}

async function findAddresses(run: Running): Promise<HostPort[]> {
  const { containers, settings, containerPort } = run;
  const known = await infoOf(run, settings.infoMaxAgeMs);
  // What does not run yet, or has no port yet, is soon asked again.
  const isUp = known !== null && isAlive(known) && hasAddress(known);
  const info = isUp ? known : await infoOf(run, settings.pollMs);
  if (info === null || !isAlive(info)) return [];
  const shared = /^container:(.+)$/.exec(info.networkMode)?.[1];
  if (shared !== undefined) {
    const other = await containers.inspect(shared);
    return other.known && other.info ? addressesOf(other.info, containerPort) : [];
  }
  if (info.networkMode !== "host" || containerPort !== null) {
    return addressesOf(info, containerPort);
  }
  const ports = await portsOf((await processesOf(info)).map((entry) => entry.pid));
  return ports.slice(0, 8).map((port) => ({ host: "127.0.0.1", port }));
}

/** Settles with how the run has ended. */
async function findEnd(run: Running): Promise<EngineExit> {
  const { client, command, settings, stopping, context } = run;
  if (!run.isAttached && run.id !== null) {
    return follow(run, run.id, await lastWritten(context.dir));
  }
  while (!client.hasExited() && (await findId(run)) === null) {
    await Promise.race([client.exited, sleep(settings.pollMs, stopping.signal)]);
    if (stopping.signal.aborted) break;
  }
  const exit = await client.exited;
  const id = await findId(run);
  if (id === null || stopping.signal.aborted) return exit;
  const info = await waitUntilKnown(run, id);
  if (info !== null && isAlive(info)) {
    if (command.detached && exit.code === 0) return follow(run, id, null);
    const { tool } = run.containers;
    context.log.warn(`the ${tool} client ended, the container goes on`, { container: info.name });
    return follow(run, id, await lastWritten(context.dir));
  }
  const isOwn = exit.code !== null && !(command.detached && exit.code === 0);
  return isOwn ? exit : { code: info?.exitCode ?? null, signal: null };
}

async function waitUntilKnown(run: Running, id: string): Promise<ContainerInfo | null> {
  const { containers, context, settings, stopping } = run;
  for (let alreadyLogged = false; ; alreadyLogged = true) {
    const found = await containers.inspect(id);
    if (found.known) {
      if (found.info) run.seen = { info: found.info, atMs: performance.now() };
      return found.info;
    }
    if (!alreadyLogged) {
      context.log.warn(`it is not known whether the container runs: ${found.why}`);
    }
    await sleep(settings.pollMs * 5, stopping.signal);
    if (stopping.signal.aborted) return null;
  }
}

async function follow(
  { context, command, containers, settings, over }: Running,
  id: string,
  since: Date | null,
): Promise<EngineExit> {
  const logging = new AbortController();
  const following = followLog(
    {
      context,
      argv: (from) => {
        const range = from === null ? [] : ["--since", from.toISOString()];
        return [...command.prefix, "logs", "-f", ...range, id];
      },
      since,
      pollMs: settings.pollMs,
      async poll() {
        const found = await containers.inspect(id);
        if (!found.known) return "unknown";
        if (found.info === null) return "gone";
        return isAlive(found.info) ? "running" : "ended";
      },
    },
    logging.signal,
  ).catch((error: unknown) => {
    context.log.error(`following the container's log: ${messageOf(error)}`);
  });
  const code = await containers.waitForEnd(id, over.signal);
  await Promise.race([following, sleep(settings.toolStopMs)]);
  logging.abort();
  await following;
  return { code, signal: null };
}

/** Ends the container, or the client that is about to make one, which is then `isUnseen`. */
async function endRun(
  run: Running,
  limits: EndLimits & { endedByItself: boolean },
): Promise<{ left: ProcessEntry[]; isUnseen: boolean }> {
  run.stopping.abort();
  if ((await findId(run)) === null && !run.client.hasExited()) await cancelClient(run, limits);
  const id = await findId(run);
  const left = id === null ? [] : await endContainer(run, id, limits);
  return { left, isUnseen: id === null };
}

/** Still pulling, or about to create it: the one signal that the client ever gets. */
async function cancelClient(run: Running, { force }: EndLimits): Promise<void> {
  const { client, settings } = run;
  if (!force?.aborted) send(client.pid, "SIGTERM");
  const deadline = AbortSignal.timeout(settings.toolStopMs);
  while (!client.hasExited() && !deadline.aborted && (await findId(run)) === null) {
    await Promise.race([client.exited, sleep(settings.pollMs, deadline)]);
  }
}

async function endContainer(
  run: Running,
  id: string,
  { stopTimeoutMs, force, endedByItself }: EndLimits & { endedByItself: boolean },
): Promise<ProcessEntry[]> {
  const { containers, command, context } = run;
  const found = await inspectStarted(run, id);
  const info = found.known ? found.info : null;
  if (info !== null && isAlive(info)) {
    await hostProcesses(run);
    await containers.stop(id, { timeoutMs: stopTimeoutMs, ...(force && { force }) });
  } else if (info !== null && endedByItself && !command.rm) {
    // Kept, for its log, until the next start.
    return [];
  }
  const why = found.known && info === null ? null : await containers.remove(id);
  if (why === null) {
    forgetTrace(context.dir);
    return [];
  }
  context.log.error(`the container ${id.slice(0, 12)} cannot be removed: ${why}`);
  return hostProcesses(run);
}

/** What was created but does not run yet would miss the request to stop. */
async function inspectStarted(run: Running, id: string): Promise<Inspection> {
  const deadline = AbortSignal.timeout(run.settings.createdMaxMs);
  for (;;) {
    const found = await run.containers.inspect(id);
    const isWaiting = found.known && found.info?.status === "created" && !run.client.hasExited();
    if (!isWaiting || deadline.aborted) return found;
    await sleep(run.settings.pollMs, deadline);
  }
}

/** The daemon may have made one after the client had given up on it. */
async function removeUnseen({ containers, context }: Running): Promise<void> {
  try {
    const found = await containers.labelled(`${ENGINE_LABEL}=${context.engineId}`);
    for (const info of found) await containers.remove(info.id);
    forgetTrace(context.dir);
  } catch (error) {
    context.log.warn(`a container may be left: ${messageOf(error)}`);
  }
}
