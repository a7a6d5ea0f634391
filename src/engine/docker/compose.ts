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
import { containersOf, type ContainerSettings } from "./containers.ts";
import { spawnIntoLog } from "./follow-log.ts";
import { isAlive } from "./inspect.ts";
import { createTool, wordsOf } from "./tool.ts";
import { keepTrace } from "./trace.ts";

export function composeLauncher(command: ComposeCommand, settings: ContainerSettings): Launcher {
  const projectOf = (context: LaunchContext): Project => {
    const tool = createTool(command.prefix, context.command, settings);
    const containers = containersOf({ tool, name: command.tool }, settings);
    const compose = createTool(command.compose, context.command, settings);
    return { context, command, settings, containers, compose };
  };

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
        return runProject(project, adoptProcess(record, context.adoptedPollMs));
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
