/** Small JSON files that this program keeps for itself, never seen half written. */

import { readFileSync, renameSync, writeFileSync } from "node:fs";

/** Replaces `file` whole, mode 0600. Throws system errors. */
export function writeJsonFile(file: string, value: object): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(value)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Undefined for a file that was never written, or was cut off by a full disk. */
export function readJsonFile(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}
