/** A head as a process of its own, of the compiled binary or of the sources. */

import { resolve } from "node:path";
import { ownEnvironment } from "./environment.ts";
import { type Finished, runProcess, spawnProcess, type TestProcess } from "./process.ts";

/** `llmnode` of the sources, as the first words of a command. */
export const SOURCES = [process.execPath, resolve(import.meta.dir, "../../src/main.ts")];

export interface RealHead extends AsyncDisposable {
  readonly process: TestProcess;
  readonly url: string;
  /** Where workers dial. */
  readonly sessions: string;
  /** Runs a command that asks this head. */
  llmnode(...args: string[]): Promise<Finished>;
}

export interface RealHeadOptions {
  /** The first words of every command: the binary, or `SOURCES`. */
  command: readonly string[];
  home: string;
  args?: readonly string[];
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** Where an earlier head was, to be there again; any free ports otherwise. */
  at?: { url: string; sessions: string };
}

/** Resolves when the head is up. */
export async function startRealHead(options: RealHeadOptions): Promise<RealHead> {
  const { command, home, args = [], at, cwd } = options;
  const env = ownEnvironment(home, options.env);
  const listen = at === undefined ? "127.0.0.1:0" : new URL(at.url).host;
  const ports = ["--listen", listen, "--session-listen", at?.sessions ?? "127.0.0.1:0"];
  const child = spawnProcess(
    [...command, "head", ...ports, "--lane-listen", "127.0.0.1:0", ...args],
    { env, ...(cwd === undefined ? {} : { cwd }) },
  );
  const [, url = "", sessions = ""] = await child.waitForLine(
    /msg="head is up" url=(\S+) sessions=(\S+)/,
    { timeoutMs: 30_000 },
  );
  return {
    process: child,
    url,
    sessions,
    llmnode: (...words) =>
      runProcess([...command, ...words, "--head", url], { env, timeoutMs: 60_000 }),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}
