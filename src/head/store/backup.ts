/** A copy of all that makes a head the head it is, in one file, and a data directory out of that. */

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { ADMIN_TOKEN_FILE, JOIN_TOKEN_FILE, readIfThere } from "../../protocol/head-files.ts";
import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import { writeSecretFile } from "../../util/secret-file.ts";
import { cleanLine } from "../../util/text.ts";
import { IDENTITY_FILE } from "./identity.ts";
import { openStore, type Store } from "./store.ts";
import { type Entry, fillStore, STORE_FILE } from "./file.ts";
import { fieldsIn, parseJson } from "../../util/json.ts";

// Lines of JSON: what it is; each file; each entry of the store; at last how many lines there were
// and their SHA-256, so that a file that was cut or changed is never taken for whole.

const SCHEMA = "llmnode.backup/1";
/** In the head's folder. Usage, the audit log and certificates for clients are not among them. */
const FILES = [IDENTITY_FILE, path.basename(JOIN_TOKEN_FILE), path.basename(ADMIN_TOKEN_FILE)];
/** Lines are put together up to this size, so that a large store never holds requests up for long. */
const PIECE_CHARS = 256 * 1024;

export interface BackupSource {
  store: Pick<Store, "list" | "revision">;
  dataDir: string;
  version: string;
  now: number;
}

/**
 * The text of a backup, in pieces: of this very moment, whatever changes before the last is taken.
 * Throws system errors for files that cannot be read.
 */
export function backupOf({ store, dataDir, version, now }: BackupSource): Iterable<string> {
  const { revision } = store;
  // Entries are replaced, never changed.
  const entries = store.list("");
  const files = FILES.flatMap((file) => {
    const text = readIfThere(path.join(dataDir, "head", file));
    return text === null ? [] : [{ file, text }];
  });
  const created_at = new Date(now).toISOString();
  return inPieces(() =>
    allLines({ schema: SCHEMA, created_at, version, revision }, files, entries),
  );
}

function* allLines(
  first: object,
  files: readonly { file: string; text: string }[],
  entries: readonly Entry[],
): Generator<object> {
  yield first;
  yield* files;
  for (const { key, value, revision } of entries) yield { key, value, revision };
}

function* inPieces(all: () => Iterable<object>): Generator<string> {
  const hash = createHash("sha256");
  let piece = "";
  let lines = 0;
  for (const line of all()) {
    piece += `${JSON.stringify(line)}\n`;
    lines += 1;
    if (piece.length < PIECE_CHARS) continue;
    hash.update(piece);
    yield piece;
    piece = "";
  }
  hash.update(piece);
  yield `${piece}${JSON.stringify({ lines, sha256: hash.digest("hex") })}\n`;
}

/** Of a head that does not run. Throws `not_found` where there never was one, `data_dir_unusable`. */
export async function backupOfDirectory(
  { dataDir, version }: { dataDir: string; version: string },
  log: Log,
): Promise<string[]> {
  const dir = path.join(dataDir, "head");
  if (!existsSync(path.join(dir, STORE_FILE))) {
    throw new LlmnodeError("not_found", `there is no head's state in ${cleanLine(dir, 200)}`, {
      hints: ["that of another folder:   llmnode head backup <file> --data-dir <dir>"],
    });
  }
  await using store = openStore({ dir, log });
  return [...backupOf({ store, dataDir, version, now: Date.now() })];
}

export interface Backup {
  createdAt: string;
  revision: number;
  files: { file: string; text: string }[];
  entries: Entry[];
}

/** Throws `usage`, with `named` in it, for what is no whole backup. */
export function readBackup(text: string, named: string): Backup {
  const wrong = (why: string) => new LlmnodeError("usage", `${named} ${why}`);
  const lines = text.split("\n");
  const end = recordOf(lines.at(-2) ?? "");
  const head = recordOf(lines[0] ?? "");
  if (typeof head["schema"] !== "string") throw wrong("is no backup of a head");
  if (head["schema"] !== SCHEMA) throw wrong("is of a newer llmnode");
  const body = text.slice(0, text.length - (lines.at(-2)?.length ?? 0) - 1);
  const sum = createHash("sha256").update(body).digest("hex");
  if (lines.at(-1) !== "" || end["lines"] !== lines.length - 2 || end["sha256"] !== sum) {
    throw wrong("is not whole, or was changed");
  }
  const backup: Backup = {
    createdAt: String(head["created_at"]),
    revision: Number(head["revision"]),
    files: [],
    entries: [],
  };
  for (const line of lines.slice(1, -2)) {
    const { file, text: content, key, value, revision } = recordOf(line);
    if (typeof key === "string") {
      backup.entries.push({ key, value, revision: Number(revision) });
    } else if (typeof file === "string" && typeof content === "string" && FILES.includes(file)) {
      backup.files.push({ file, text: content });
    }
  }
  if (!backup.files.some(({ file }) => file === IDENTITY_FILE)) throw wrong("has no key of a head");
  return backup;
}

/**
 * Makes the head's folder in a data directory that has none, whole or not at all. Throws `refused`
 * where there is one, `data_dir_unusable`.
 */
export function restoreBackup(backup: Backup, dataDir: string): void {
  const dir = path.join(dataDir, "head");
  if (existsSync(dir)) {
    throw new LlmnodeError("refused", `there is a head's state in ${cleanLine(dir, 200)} already`, {
      hints: ["choose another folder with --data-dir, or move that one away first"],
    });
  }
  const failed = (error: unknown) => {
    if (error instanceof LlmnodeError) return error;
    const message = `cannot make the head's state in ${cleanLine(dir, 200)}: ${messageOf(error)}`;
    return new LlmnodeError("data_dir_unusable", message, { cause: error });
  };
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw failed(error);
  }
  const fresh = `${dir}.${process.pid}.new`;
  try {
    fillStore(fresh, backup);
    for (const { file, text } of backup.files) writeSecretFile(path.join(fresh, file), text);
    renameSync(fresh, dir);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    throw failed(error);
  }
}

/** Empty for what is no JSON object. */
function recordOf(line: string): Record<string, unknown> {
  return fieldsIn(parseJson(line));
}
