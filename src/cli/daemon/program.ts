/** What this program is called, which version it is, and how to start it again. */

import { readFileSync } from "node:fs";
import { relative } from "node:path";
import type { Environment } from "../base/options.ts";
import { isRecord } from "../../util/json.ts";

/** Put in by the build; absent when the sources run directly. */
declare const LLMNODE_VERSION: string | undefined;

export interface VersionFacts {
  version: string;
  bun: string;
  /** Operating system and processor, such as `linux-x64`. */
  platform: string;
}

export function versionFacts(): VersionFacts {
  return {
    version: typeof LLMNODE_VERSION === "string" ? LLMNODE_VERSION : packageVersion(),
    bun: Bun.version,
    platform: `${process.platform}-${process.arch}`,
  };
}

/** The argv that starts this very program: the binary, or Bun with the entry file. */
export function selfCommand(): string[] {
  return Bun.isStandaloneExecutable ? [process.execPath] : [process.execPath, Bun.main];
}

/** How a person at this terminal can type this program, for lines that are meant to be pasted. */
export function typedName(env: Environment): string {
  if (Bun.which("llmnode", { PATH: env["PATH"] ?? "" }) !== null) return "llmnode";
  if (!Bun.isStandaloneExecutable) return "llmnode";
  const near = relative(process.cwd(), process.execPath);
  if (near.startsWith("..")) return process.execPath;
  return near.includes("/") ? near : `./${near}`;
}

function packageVersion(): string {
  const file = new URL("../../../package.json", import.meta.url);
  const parsed: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (isRecord(parsed) && "version" in parsed) {
    if (typeof parsed["version"] === "string") return parsed["version"];
  }
  throw new Error(`${file.pathname} has no version`);
}
