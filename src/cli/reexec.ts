/** Starts this program anew in its place: with more `fetch` calls allowed, without secrets in argv. */

import { LlmnodeError, messageOf } from "../protocol/errors.ts";
import { selfCommand } from "./program.ts";
import type { Environment } from "./spec.ts";

/**
 * Bun reads it once, from the environment that the process was started with; the default is 256
 * calls at a time, which is 256 open streams. 65535 is the highest value it takes.
 */
export const FETCH_LIMIT_VARIABLE = "BUN_CONFIG_MAX_HTTP_REQUESTS";
export const FETCH_LIMIT = "65535";

/** Where a join token goes that stood among the arguments; only this user can read it there. */
export const TOKEN_VARIABLE = "LLMNODE_TOKEN";

/**
 * Replaces this process by itself (same pid, same open streams) with the limit raised and a
 * `--token` moved to the environment; returns when there is nothing to do. Any other value that the
 * limit's variable has is overruled: a head with a lower one would let requests wait for no reason
 * that anybody sees. A process that was started so never starts itself again: this cannot loop.
 */
export function restartInPlace(env: Environment): void {
  const { args: typed, token } = withoutToken(process.argv.slice(2));
  if (env[FETCH_LIMIT_VARIABLE] === FETCH_LIMIT && token === null) return;
  const [program = process.execPath, ...args] = selfCommand();
  const argv = Bun.isStandaloneExecutable
    ? [program, ...typed]
    : [program, ...process.execArgv, ...args, ...typed];
  const known = Object.entries(env).filter((entry): entry is [string, string] => {
    return entry[1] !== undefined;
  });
  try {
    process.execve?.(program, argv, {
      ...Object.fromEntries(known),
      [FETCH_LIMIT_VARIABLE]: FETCH_LIMIT,
      ...(token === null ? {} : { [TOKEN_VARIABLE]: token }),
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

/** Takes `--token <value>` out of what stands before the engine's command; the last one counts. */
export function withoutToken(typed: readonly string[]): { args: string[]; token: string | null } {
  const end = typed.includes("--") ? typed.indexOf("--") : typed.length;
  const args: string[] = [];
  let token: string | null = null;
  for (let i = 0; i < end; i += 1) {
    const word = typed[i] ?? "";
    const next = typed[i + 1];
    if (word.startsWith("--token=")) token = word.slice("--token=".length);
    else if (word === "--token" && i + 1 < end && next !== undefined) {
      token = next;
      i += 1;
    } else args.push(word);
  }
  return { args: [...args, ...typed.slice(end)], token };
}
