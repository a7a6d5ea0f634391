/** Starts this program anew in its place: with Bun's limits set, without secrets in argv. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import { withoutEngineVariables } from "./variables.ts";
import { selfCommand } from "./program.ts";
import type { Environment } from "../base/options.ts";
import { VIA_PROXY_VARIABLE } from "./via-proxy.ts";

/**
 * Bun reads it once, from the environment that the process was started with; the default is 256
 * calls at a time, which is 256 open streams. 65535 is the highest value it takes.
 */
export const FETCH_LIMIT_VARIABLE = "BUN_CONFIG_MAX_HTTP_REQUESTS";
export const FETCH_LIMIT = "65535";

/**
 * Read once by the memory allocator: how often it searches for pages to give back at most. By
 * default ten times a second while there is anything to do, which is most of what an idle process
 * costs; the memory is given back as well, a second later.
 */
export const PURGE_VARIABLE = "MIMALLOC_PURGE_HOLES_MIN_INTERVAL";
const PURGE_INTERVAL_MS = "1000";

/** Where a join token goes that stood among the arguments; only this user can read it there. */
export const TOKEN_VARIABLE = "LLMNODE_TOKEN";

/**
 * Replaces this process by itself (same pid, same open streams) with the limit raised and
 * secrets moved to the environment; returns when there is nothing to do. Any other value that the
 * limit's variable has is overruled: a head with a lower one would let requests wait for no reason
 * that anybody sees. A process that was started so never starts itself again: this cannot loop.
 */
export function restartInPlace(env: Environment): void {
  const { args, secrets: own } = withoutSecrets(process.argv.slice(2));
  const { args: typed, variables } = withoutEngineVariables(args);
  const secrets = { ...own, ...variables };
  const isClean = Object.keys(secrets).length === 0;
  if (env[FETCH_LIMIT_VARIABLE] === FETCH_LIMIT && isClean) return;
  const [program = process.execPath, ...entry] = selfCommand();
  const argv = Bun.isStandaloneExecutable
    ? [program, ...typed]
    : [program, ...process.execArgv, ...entry, ...typed];
  const known = Object.entries(env).filter((entry): entry is [string, string] => {
    return entry[1] !== undefined;
  });
  try {
    process.execve?.(program, argv, {
      [PURGE_VARIABLE]: PURGE_INTERVAL_MS,
      ...Object.fromEntries(known),
      [FETCH_LIMIT_VARIABLE]: FETCH_LIMIT,
      ...secrets,
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

/**
 * Takes `--token <value>`, and a `--via-proxy <url>` with credentials, out of what stands before the
 * engine's command; the last one counts. `secrets` are the variables that say the same.
 */
export function withoutSecrets(typed: readonly string[]): {
  args: string[];
  secrets: Record<string, string>;
} {
  const end = typed.includes("--") ? typed.indexOf("--") : typed.length;
  const args: string[] = [];
  const secrets: Record<string, string> = {};
  for (let i = 0; i < end; i += 1) {
    const word = typed[i] ?? "";
    const next = i + 1 < end ? typed[i + 1] : undefined;
    const found = SECRETS.find(({ flag }) => word === flag || word.startsWith(`${flag}=`));
    const isInline = found !== undefined && word !== found.flag;
    const value = found && (isInline ? word.slice(found.flag.length + 1) : next);
    if (found === undefined || value === undefined || !found.hides(value)) {
      args.push(word);
    } else {
      secrets[found.variable] = value;
      if (!isInline) i += 1;
    }
  }
  return { args: [...args, ...typed.slice(end)], secrets };
}

const SECRETS: ReadonlyArray<{
  flag: string;
  variable: string;
  hides: (value: string) => boolean;
}> = [
  { flag: "--token", variable: TOKEN_VARIABLE, hides: () => true },
  {
    flag: "--via-proxy",
    variable: VIA_PROXY_VARIABLE,
    hides: (value) => value.includes("://") && value.includes("@"),
  },
];
