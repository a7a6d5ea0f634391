/** Children that outlive the engine, as worker processes do that nobody told of its end. */

import { LlmnodeError } from "../protocol/errors.ts";
import type { SimOptions } from "./core/options.ts";

/** They end by themselves, so that a forgotten one is not there for ever. */
const LIFE_S = 3600;

/**
 * Starts the children that are asked for and prints their pids; nothing here ends them. With
 * `ignoreTerm` they ignore SIGTERM and SIGINT as well. Throws `usage` where there is no shell.
 */
export function startChildren(options: SimOptions): void {
  const { forkChild, setsidChild } = options;
  if (forkChild) startChild(options, false);
  if (setsidChild) startChild(options, true);
}

function startChild({ ignoreTerm, print }: SimOptions, detached: boolean): void {
  const shell = Bun.which("sh");
  if (shell === null) throw new LlmnodeError("usage", "a child needs the program sh on the PATH");
  const deaf = ignoreTerm ? 'trap "" TERM INT; ' : "";
  const child = Bun.spawn([shell, "-c", `${deaf}exec sleep ${LIFE_S}`], {
    stdio: ["ignore", "ignore", "ignore"],
    detached,
  });
  child.unref();
  const where = detached ? "in its own session" : "in this process group";
  print(`llmnode sim: child ${child.pid} ${where} (simulated, it stays when the engine ends)`);
}
