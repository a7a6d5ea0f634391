/** Starts engines that are a compose project: `docker compose up`, ended by `compose down`. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { LaunchContext, Launcher } from "../process/launch.ts";
import { adoptProcess, findProgram } from "../process/process.ts";
import { isRecorded } from "../process/record.ts";
import type { ComposeCommand } from "./argv/compose-command.ts";
import {
  attachWords,
  listContainers,
  PROJECT_LABEL,
  runProject,
  takeDown,
  type Project,
} from "./compose-run.ts";
import { containersOf, type Containers } from "./containers.ts";
import { spawnIntoLog } from "./follow-log.ts";
import { isAlive } from "./inspect.ts";
import { CONTAINER_DEFAULTS, type ContainerSettings } from "./settings.ts";
import { createTool, wordsOf } from "./tool.ts";
import { keepTrace } from "./trace.ts";

export interface ComposeLauncherOptions {
  command: ComposeCommand;
  settings?: Partial<ContainerSettings>;
}

export function composeLauncher(options: ComposeLauncherOptions): Launcher {
  const { command } = options;
  const settings = { ...CONTAINER_DEFAULTS, ...options.settings };
  const projectOf = (context: LaunchContext): Project => ({
    context,
    command,
    settings,
    containers: projectContainers(command, context, settings),
    compose: createTool(command.compose, context.command, settings),
  });

  return {
    async start(context) {
      const project = projectOf(context);
      await checkCompose(project);
      for (const word of command.leftOut) {
        context.log.warn(
          `left out ${word}: the worker needs ${command.tool} compose up in the foreground`,
        );
      }
      keepTrace(context.dir, {
        tool: command.tool,
        prefix: command.prefix,
        down: [...command.compose, "down"],
        cwd: context.command.cwd,
      });
      return runProject(project, await spawnIntoLog(context, command.up));
    },
    async adopt(context, record) {
      const project = projectOf(context);
      if (record.command_hash !== context.commandHash) return null;
      if (!(await listContainers(project)).some(isAlive)) return null;
      if (await isRecorded(record, context.engineId)) {
        const target = { pid: record.pid, startTime: record.start_time };
        return runProject(project, adoptProcess(target, { pollMs: context.adoptedPollMs }));
      }
      return runProject(project, await spawnIntoLog(context, attachWords(command)));
    },
    async removeLeftovers(context) {
      await findProgram(context.command);
      const project = projectOf(context);
      const left = await listContainers(project);
      if (left.length === 0) return [];
      await takeDown(project, { stopTimeoutMs: 0 });
      return left.filter(isAlive).map((info) => `container ${info.name}`);
    },
  };
}

function projectContainers(
  { prefix, tool }: ComposeCommand,
  { command }: LaunchContext,
  settings: ContainerSettings,
): Containers {
  const call = createTool(prefix, command, settings);
  return containersOf({ tool: call, waiting: call, name: tool }, settings);
}

/** Throws LlmnodeError if the tool or its compose is not there, or no daemon answers. */
async function checkCompose({ context, compose, command, containers }: Project): Promise<void> {
  await findProgram(context.command);
  const answer = await compose(["version"]);
  if (answer.code !== 0) {
    const words = `${command.compose.slice(0, 2).join(" ")} does not work: ${wordsOf(answer, command.tool)}`;
    throw new LlmnodeError("engine_not_found", words, {
      hints: ["docker's compose is a package of its own: docker-compose-plugin, docker-compose-v2"],
    });
  }
  await containers.labelled(`${PROJECT_LABEL}=${command.project}`);
}
