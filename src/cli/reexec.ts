/** Lifts Bun's ceiling on concurrent `fetch` calls by starting this program anew in place. */

import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { selfCommand } from "./program.ts";
import type { Environment } from "./spec.ts";

/**
 * Bun reads it once, from the environment that the process was started with; the default is 256
 * calls at a time, which is 256 open streams. 65535 is the highest value it takes.
 */
export const FETCH_LIMIT_VARIABLE = "BUN_CONFIG_MAX_HTTP_REQUESTS";
export const FETCH_LIMIT = "65535";

/**
 * Replaces this process by itself (same pid, same open streams) with the limit raised; returns
 * when it already is. Any other value that the variable has is overruled: a head with a lower one
 * would let requests wait for no reason that anybody sees. A process that carries the value never
 * starts itself again, so this cannot loop.
 */
export function raiseFetchLimit(env: Environment): void {
  if (env[FETCH_LIMIT_VARIABLE] === FETCH_LIMIT) return;
  const [program = process.execPath, ...args] = selfCommand();
  const argv = Bun.isStandaloneExecutable
    ? [program, ...process.argv.slice(2)]
    : [program, ...process.execArgv, ...args, ...process.argv.slice(2)];
  const known = Object.entries(env).filter((entry): entry is [string, string] => {
    return entry[1] !== undefined;
  });
  try {
    process.execve?.(program, argv, {
      ...Object.fromEntries(known),
      [FETCH_LIMIT_VARIABLE]: FETCH_LIMIT,
    });
  } catch (error) {
    throw new LlmnodeError("internal", `cannot start ${program} again: ${messageOf(error)}`, {
      hints: [`start it with ${FETCH_LIMIT_VARIABLE}=${FETCH_LIMIT} in its environment`],
      cause: error,
    });
  }
  throw new LlmnodeError("internal", "this system cannot replace a running process", {
    hints: [`start it with ${FETCH_LIMIT_VARIABLE}=${FETCH_LIMIT} in its environment`],
  });
}
