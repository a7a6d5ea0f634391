/** Remembers in an engine's folder what was started in containers, so that any later start of the
 * engine, with whatever command, can remove it. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { EngineCommandLine } from "../process/process.ts";
import { isRecord } from "../../util/json.ts";
import { readJsonFile, writeJsonFile } from "../../util/json-file.ts";

export interface ContainerTrace {
  /** `docker`, `podman`, `nerdctl`. */
  tool: string;
  /** How the tool is called, see ContainerCommand. */
  prefix: readonly string[];
  /** The whole command that ends a compose project; null: containers are found by their label. */
  down: readonly string[] | null;
  cwd: string;
}

const FILE = "container.json";

/** Throws system errors. */
export function keepTrace(dir: string, trace: ContainerTrace): void {
  writeJsonFile(join(dir, FILE), { schema: 1, ...trace });
}

/** Null if nothing was started in containers, or if it has been removed. */
export function readTrace(dir: string): ContainerTrace | null {
  const value = readJsonFile(join(dir, FILE));
  return isTrace(value) ? value : null;
}

export function forgetTrace(dir: string): void {
  rmSync(join(dir, FILE), { force: true });
}

/** The command line of a call to the tool that left the trace. */
export function traceCommand(trace: ContainerTrace, now: EngineCommandLine): EngineCommandLine {
  return { argv: trace.prefix, env: now.env, cwd: trace.cwd };
}

function isTrace(value: unknown): value is ContainerTrace {
  if (!isRecord(value)) return false;
  const { tool, prefix, down, cwd } = value as Partial<Record<keyof ContainerTrace, unknown>>;
  return (
    typeof tool === "string" &&
    isWords(prefix) &&
    (down === null || isWords(down)) &&
    typeof cwd === "string"
  );
}

function isWords(value: unknown): boolean {
  return (
    Array.isArray(value) && value.length > 0 && value.every((word) => typeof word === "string")
  );
}
