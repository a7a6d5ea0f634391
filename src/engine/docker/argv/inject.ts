/** Adds to a container command what makes its container ours to find, stop and remove. */

import type { ContainerCommand } from "./command.ts";
import type { Option } from "./words.ts";

/** The worker's engine that a container belongs to. */
export const ENGINE_LABEL = "llmnode.engine";
/** The worker that started it. */
export const WORKER_LABEL = "llmnode.worker";
/** A hash of the command that started it: another command never takes it over. */
export const COMMAND_LABEL = "llmnode.command";

export interface ContainerMarks {
  workerId: string;
  engineId: string;
  commandHash: string;
  /** Where the tool writes the container's id, unless the user names a file. */
  cidfile: string;
}

/**
 * The command with the marks between `run` and the image, and without what wants a terminal
 * (there is none, and the tool would refuse to start); all other words are as they were.
 */
export function injectMarks(
  argv: readonly string[],
  command: ContainerCommand,
  marks: ContainerMarks,
): string[] {
  const labels = {
    [WORKER_LABEL]: marks.workerId,
    [ENGINE_LABEL]: marks.engineId,
    [COMMAND_LABEL]: marks.commandHash,
  };
  const added = Object.entries(labels).flatMap(([name, value]) => ["--label", `${name}=${value}`]);
  if (command.cidfile === null) added.unshift("--cidfile", marks.cidfile);
  const { runAt, imageAt, options } = command;
  return [
    ...argv.slice(0, runAt + 1),
    ...added,
    ...withoutOptions(argv.slice(0, imageAt), options, TERMINAL).slice(runAt + 1),
    ...argv.slice(imageAt),
  ];
}

const TERMINAL = new Set(["-i", "-t", "--interactive", "--tty"]);

/** The words without those options and their values; of `-itp 80:80` only the letters go. */
export function withoutOptions(
  argv: readonly string[],
  options: readonly Option[],
  names: ReadonlySet<string>,
): string[] {
  const dropped = options.filter((option) => names.has(option.name));
  return argv.flatMap((word, at) => {
    if (dropped.some((option) => option.words === 2 && option.at + 1 === at)) return [];
    const here = dropped.filter((option) => option.at === at);
    if (here.length === 0) return [word];
    if (word.startsWith("--")) return [];
    // What follows a letter that takes a value is that value, not more letters.
    const letters = here.reduce((text, { name }) => text.replace(name.slice(1), ""), word);
    return /^-(?:=.*)?$/.test(letters) ? [] : [letters];
  });
}
