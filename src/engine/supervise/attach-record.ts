/** What the folder of an attached engine keeps, so that the next life of the worker goes on with it. */

import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";

/** The file, as it stands. */
interface AttachRecord {
  schema: 1;
  url: string;
  /** The life of the worker that watched it last. */
  worker_run: string;
  /** What the engine's run was called then. */
  run: string;
}

export interface AttachedRun {
  run: string;
  /** The life of the worker that watched it before and did not say goodbye; null: none. */
  continues: string | null;
  /** The worker leaves in order: whoever comes next starts anew. */
  forget(): void;
}

const FILE = "attached.json";

/**
 * Names the run of the engine at `url`: as the worker before did if it ended without a goodbye. The
 * engine did not end with it, so the requests that it has are not to be taken for lost.
 */
export function continueAttached(
  { dir, url, workerRun }: { dir: string; url: string; workerRun: string },
  log: Log,
): AttachedRun {
  const file = path.join(dir, FILE);
  const before = readRecord(file);
  const isSame = before !== null && before.url === url;
  const run = isSame ? before.run : crypto.randomUUID();
  const keep = (action: () => void) => {
    try {
      action();
    } catch (error) {
      log.warn("which engine this is cannot be written down", { dir, error: messageOf(error) });
    }
  };
  keep(() => {
    const record: AttachRecord = { schema: 1, url, worker_run: workerRun, run };
    writeFileSync(`${file}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  });
  return {
    run,
    continues: isSame ? before.worker_run : null,
    forget: () => keep(() => rmSync(file, { force: true })),
  };
}

function readRecord(file: string): AttachRecord | null {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    if (typeof value !== "object" || value === null) return null;
    const { schema, url, worker_run, run } = value as Partial<Record<keyof AttachRecord, unknown>>;
    if (schema !== 1 || typeof url !== "string") return null;
    if (typeof worker_run !== "string" || typeof run !== "string") return null;
    return { schema, url, worker_run, run };
  } catch {
    // Never written, or cut off by a full disk: then it is a new run.
    return null;
  }
}
