/** Starts engines in containers: `docker run ...`, and podman and nerdctl by the same grammar. */

import { readFile, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { LlmnodeError } from "../../protocol/errors.ts";
import type { LaunchContext, Launched, Launcher, StartContext } from "../process/launch.ts";
import { ENGINE_MARK, markedProcesses } from "../process/proc.ts";
import {
  adoptProcess,
  findProgram,
  goneProcess,
  spawnEngine,
  type EngineProcess,
} from "../process/process.ts";
import { send } from "../process/process-tree.ts";
import { isRecorded } from "../process/record.ts";
import { adviseContainer, type AdviceFacts } from "./argv/advice.ts";
import type { ContainerCommand } from "./argv/command.ts";
import { runContainer } from "./container-run.ts";
import {
  containersOf,
  type Containers,
  processesOf,
  type ContainerSettings,
} from "./containers.ts";
import { COMMAND_LABEL, ENGINE_LABEL, injectMarks } from "./argv/inject.ts";
import { isAlive, type ContainerInfo } from "./inspect.ts";
import { forgetTrace, keepTrace } from "./trace.ts";
import { createTool, type Tool } from "./tool.ts";

export function containerLauncher(
  command: ContainerCommand,
  facts: AdviceFacts,
  settings: ContainerSettings,
): Launcher {
  let isAdvised = false;

  const toolsFor = (context: LaunchContext): { tool: Tool; containers: Containers } => {
    const marked = { ...context.command.env, [ENGINE_MARK]: context.engineId };
    const tool = createTool(command.prefix, context.command, settings);
    const waiting = createTool(command.prefix, { ...context.command, env: marked }, settings);
    return { tool, containers: containersOf({ tool, waiting, name: command.tool }, settings) };
  };
  const cidfileOf = (context: LaunchContext): string =>
    command.cidfile === null
      ? join(context.dir, "engine.cid")
      : resolve(context.command.cwd, command.cidfile);
  const base = (context: LaunchContext, containers: Containers) => ({
    context,
    command,
    containers,
    settings,
    containerPort: facts.containerPort,
    cidfile: cidfileOf(context),
  });

  return {
    async start(context): Promise<Launched> {
      await findProgram(context.command);
      const { tool, containers } = toolsFor(context);
      await removeOwn(context, containers);
      await refuseTakenName(command, containers);
      await removeStaleCidfile(cidfileOf(context), containers);
      if (!isAdvised) for (const line of adviseContainer(command, facts)) context.log.warn(line);
      isAdvised = true;
      const image = await tool(["image", "inspect", command.image]);
      const { prefix, tool: name } = command;
      keepTrace(context.dir, { tool: name, prefix, down: null, cwd: context.command.cwd });
      return runContainer({
        ...base(context, containers),
        client: await startClient(command, context, cidfileOf(context)),
        id: null,
        isAttached: true,
        pullsImage: image.code !== 0,
      });
    },
    async adopt(context, record) {
      const { containers } = toolsFor(context);
      const all = await containers.labelled(`${ENGINE_LABEL}=${context.engineId}`);
      const found = all.find(
        (info) => isAlive(info) && info.labels[COMMAND_LABEL] === context.commandHash,
      );
      if (!found) return null;
      isAdvised = true;
      // The tool's process may have outlived the worker: it goes on writing the log.
      const isAttached =
        !command.detached &&
        record.command_hash === context.commandHash &&
        (await isRecorded(record, context.engineId));
      await endHelpers(context, isAttached ? record.pid : null);
      context.onContainer?.(command.name ?? found.id.slice(0, 12));
      return runContainer({
        ...base(context, containers),
        client: isAttached ? adoptProcess(record, context.adoptedPollMs) : await endedClient(found),
        id: found.id,
        isAttached,
        pullsImage: false,
      });
    },
    async removeLeftovers(context) {
      // Before anything else: a program that is not there has the clearest words here.
      await findProgram(context.command);
      return removeOwn(context, toolsFor(context).containers);
    },
  };
}

/** What followed the container for an earlier run of the worker would do so twice from here on. */
async function endHelpers({ engineId }: LaunchContext, client: number | null): Promise<void> {
  for (const { pid } of await markedProcesses(engineId)) {
    if (pid !== client) send(-pid, "SIGKILL");
  }
}

async function startClient(
  command: ContainerCommand,
  context: StartContext,
  cidfile: string,
): Promise<EngineProcess> {
  const { engineId, commandHash, logFd } = context;
  const marks = { workerId: engineId, engineId, commandHash, cidfile };
  const marked = {
    ...context.command,
    argv: injectMarks(context.command.argv, command, marks),
  };
  return spawnEngine(marked, await findProgram(marked), { engineId, logFd });
}

/** Above the largest number that the kernel gives to a process (proc(5), pid_max). */
const NO_PROCESS = 2 ** 22 + 1;

/** Stands for a client that is gone; its number is that of the container's first process. */
async function endedClient(info: ContainerInfo): Promise<EngineProcess> {
  return goneProcess((await processesOf(info)).length > 0 ? info.pid : NO_PROCESS);
}

/** Removes what earlier runs left, running or kept for its log. Throws if the tool cannot say. */
async function removeOwn(context: LaunchContext, containers: Containers): Promise<string[]> {
  const removed: string[] = [];
  for (const info of await containers.labelled(`${ENGINE_LABEL}=${context.engineId}`)) {
    const why = await containers.remove(info.id);
    if (why !== null) {
      const words = `the container ${info.name} of an earlier run cannot be removed: ${why}`;
      throw new LlmnodeError("engine_not_executable", words, {
        hints: [`remove it by hand: ${containers.tool} rm -f ${info.name}`],
      });
    }
    if (isAlive(info)) removed.push(`container ${info.name}`);
  }
  forgetTrace(context.dir);
  return removed;
}

async function refuseTakenName(
  { name, tool }: ContainerCommand,
  containers: Containers,
): Promise<void> {
  if (name === null) return;
  const found = await containers.inspect(name);
  if (!found.known || found.info === null || found.info.name !== name) return;
  const { labels, status } = found.info;
  const owner = labels[ENGINE_LABEL];
  const by = owner === undefined ? "another container" : `the engine of worker ${owner}`;
  const words = `the container name ${name} is taken by ${by}, which is ${status}`;
  throw new LlmnodeError("usage", words, {
    hints: [
      "leave --name out of the command, or take another name",
      `or remove what has it: ${tool} rm -f ${name}`,
    ],
  });
}

/** The tool refuses to start where the file exists; one that names a living container stays. */
async function removeStaleCidfile(cidfile: string, containers: Containers): Promise<void> {
  const id = (await readFile(cidfile, "utf8").catch(() => "")).trim();
  if (/^[0-9a-f]{12,64}$/.test(id)) {
    const found = await containers.inspect(id);
    if (!found.known || found.info !== null) return;
  }
  await rm(cidfile, { force: true });
}
