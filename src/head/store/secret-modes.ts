/** Sees to it that what the head keeps is its own user's alone, also after a restored backup. */

import { chmodSync, lstatSync, readdirSync } from "node:fs";
import path from "node:path";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";

/**
 * Takes other users' rights from the head's folder and from each file in it, and says so: what
 * others could read may be known to them. Throws `data_dir_unusable` where that cannot be done.
 */
export function repairModes(dir: string, log: Log): void {
  repair(dir, { log, mode: 0o700 });
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    if (entry.isFile()) repair(path.join(dir, entry.name), { log, mode: 0o600 });
  }
}

function repair(place: string, { log, mode }: { log: Log; mode: number }): void {
  const found = lstatSync(place).mode & 0o777;
  if ((found & 0o077) === 0) return;
  try {
    chmodSync(place, mode);
  } catch (error) {
    throw new LlmnodeError(
      "data_dir_unusable",
      `${place} is readable by other users, and its mode cannot be changed: ${messageOf(error)}`,
      { hints: [`as its owner:   chmod ${mode.toString(8)} ${place}`], cause: error },
    );
  }
  log.warn("a file of the head was readable by other users; its mode is corrected", {
    file: place,
    mode: found.toString(8),
  });
}
