/** Chooses how an engine's command is started: in a container, as a compose project, or bare. */

import { LlmnodeError } from "../../protocol/errors.ts";
import type { ArgvFacts } from "../argv/argv.ts";
import { bareLauncher, type LaunchContext, type Launcher } from "../process/launch.ts";
import type { Environment } from "../shell-words.ts";
import { projectName, readComposeCommand } from "./argv/compose-command.ts";
import { composeLauncher } from "./compose.ts";
import { containerLauncher } from "./container.ts";
import { containersOf, CONTAINER_DEFAULTS, type ContainerSettings } from "./containers.ts";
import { ENGINE_LABEL } from "./argv/inject.ts";
import { createTool, wordsOf } from "./tool.ts";
import { forgetTrace, readTrace, traceCommand, type ContainerTrace } from "./trace.ts";

export interface LauncherOptions {
  argvFacts: ArgvFacts;
  env: Environment;
  engineId: string;
  settings?: Partial<ContainerSettings>;
}

/** Whatever the command is, containers that an earlier command of the engine left are removed. */
export function launcherFor(options: LauncherOptions): Launcher {
  const settings = { ...CONTAINER_DEFAULTS, ...options.settings };
  const launcher = chooseLauncher(options, settings);
  return {
    ...launcher,
    async removeLeftovers(context) {
      const own = (await launcher.removeLeftovers?.(context)) ?? [];
      return [...own, ...(await removeTraced(context, settings))];
    },
  };
}

function chooseLauncher(
  { argvFacts, env, engineId }: LauncherOptions,
  settings: ContainerSettings,
): Launcher {
  const { argv, container, toolCall, isHidden } = argvFacts.launch;
  if (container !== null) return containerLauncher(container, argvFacts, settings);
  const compose = toolCall && readComposeCommand(argv, env, projectName(engineId), toolCall);
  if (compose !== null) return composeLauncher(compose, settings);
  return isHidden ? hiddenLauncher : bareLauncher;
}

const hiddenLauncher: Launcher = {
  ...bareLauncher,
  start(context) {
    context.log.warn(
      "a container that a shell starts can outlive this worker: write its command after -- as it is, without the shell",
    );
    return bareLauncher.start(context);
  },
};

/** Ends what an earlier run has left; a daemon that does not answer is logged, and asked next time. */
async function removeTraced(
  context: LaunchContext,
  settings: ContainerSettings,
): Promise<string[]> {
  const trace = readTrace(context.dir);
  if (trace === null) return [];
  try {
    const removed = await removeTrace(trace, context, settings);
    forgetTrace(context.dir);
    return removed;
  } catch (error) {
    if (!(error instanceof LlmnodeError)) throw error;
    context.log.warn(`containers of an earlier run may be left: ${error.message}`);
    return [];
  }
}

async function removeTrace(
  trace: ContainerTrace,
  context: LaunchContext,
  settings: ContainerSettings,
): Promise<string[]> {
  const fail = (why: string) => new LlmnodeError("engine_not_executable", why);
  const command = traceCommand(trace, context.command);
  if (trace.down !== null) {
    const answer = await createTool(trace.down, command, settings)([]);
    if (answer.code !== 0) throw fail(wordsOf(answer, trace.tool));
    return ["a compose project"];
  }
  const tool = createTool(trace.prefix, command, settings);
  const containers = containersOf({ tool, name: trace.tool }, settings);
  const found = await containers.labelled(`${ENGINE_LABEL}=${context.engineId}`);
  for (const info of found) {
    const why = await containers.remove(info.id);
    if (why !== null) throw fail(why);
  }
  return found.map((info) => `container ${info.name}`);
}
