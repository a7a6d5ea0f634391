/** Programs that stand in for nvidia-smi and others on a PATH of the test's own. */

import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type TempDir, tempDir } from "../helpers/temp.ts";

const FIXTURES = path.join(import.meta.dir, "../fixtures/nvidia-smi");

export function fixture(name: string): string {
  return readFileSync(path.join(FIXTURES, name), "utf8");
}

export function fixturePath(name: string): string {
  return path.join(FIXTURES, name);
}

/** What each way of asking does, as lines of sh; what is not named fails. */
export interface FakeSmi {
  /** `--query-gpu`. */
  gpus?: string;
  /** `--query-compute-apps`. */
  apps?: string;
  /** `-L`. */
  list?: string;
  /** `-q -x`. */
  xml?: string;
}

/** Lines of sh that print a fixture's header once and its rows for ever, as `-lms` does. */
export function playing(name: string): string {
  const file = fixturePath(name);
  return `/usr/bin/head -n 1 ${file}; while :; do /usr/bin/tail -n +2 ${file}; /bin/sleep 0.05; done`;
}

export const printing = (name: string): string => `/bin/cat ${fixturePath(name)}`;

/** A folder for a PATH, with a fake nvidia-smi if one is described. */
export function toolDir(smi?: FakeSmi): TempDir {
  const dir = tempDir();
  if (smi) writeSmi(dir.path, smi);
  return dir;
}

export function writeSmi(dir: string, smi: FakeSmi): void {
  const cases: [string, string | undefined][] = [
    ["--query-gpu=*", smi.gpus],
    ["--query-compute-apps=*", smi.apps],
    ["-L", smi.list],
    ["-q", smi.xml],
  ];
  const body = cases.map(([way, lines]) => `${way})\n${lines ?? "exit 9"}\n;;`).join("\n");
  writeTool(dir, "nvidia-smi", `case "$1" in\n${body}\nesac`);
}

export function writeTool(dir: string, name: string, script: string): void {
  const file = path.join(dir, name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}
