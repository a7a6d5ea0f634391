/** Small files that only their owner may read, and that are never seen half written. */

import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import path from "node:path";

/** Replaces `file` whole, mode 0600, on disk when it returns. Throws system errors. */
export function writeSecretFile(file: string, text: string): void {
  const fresh = `${file}.${process.pid}.new`;
  try {
    // A leftover of a process that had our number may have any mode.
    rmSync(fresh, { force: true });
    const fd = openSync(fresh, "wx", 0o600);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(fresh, file);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  syncFolder(path.dirname(file));
}

/** Makes the new name itself last. */
function syncFolder(dir: string): void {
  const fd = openSync(dir, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
