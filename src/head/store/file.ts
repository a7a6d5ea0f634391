/** The SQLite file of the head's store: opening it, what it says, and what is wrong with it. */

import { Database } from "bun:sqlite";
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { LlmnodeError, messageOf, systemCode } from "../../protocol/errors.ts";
import { networkFileSystemOf } from "../../util/mounts.ts";

export interface Entry {
  key: string;
  value: unknown;
  /** Of the change that set it. */
  revision: number;
}

export interface Change {
  key: string;
  /** Undefined: deleted. */
  value: unknown;
  revision: number;
}

const FORMAT = 1;
export const STORE_FILE = "store.sqlite";

/** Makes a store with what another had. Throws `data_dir_unusable`. */
export function fillStore(
  dir: string,
  { entries, revision }: { entries: Iterable<Entry>; revision: number },
): void {
  prepareFolder(dir);
  const database = openFile(dir);
  try {
    writeChanges(database, { changes: entries, revision });
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
  } finally {
    database.close();
  }
}

/** Notes what another head that wants the same folder shows, such as our address. */
export function noteOwner(dir: string, where: string): void {
  const text = [`pid ${process.pid}`, where].filter(Boolean).join(", ");
  writeFileSync(path.join(dir, "owner"), `${text}\n`, { mode: 0o600 });
}

export function prepareFolder(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
  } catch (error) {
    throw unusable(dir, messageOf(error), error);
  }
  const network = networkFileSystemOf(dir);
  if (network === null) return;
  throw unusable(dir, `it is on a network file system (${network}), where data may be lost`);
}

/** The lock is the database's own: held by the kernel until this process ends, however it ends. */
export function openFile(dir: string): Database {
  const file = path.join(dir, STORE_FILE);
  let database: Database | null = null;
  try {
    // Made by us, so that no other user can ever read it; the journals take its mode over.
    closeSync(openSync(file, "a", 0o600));
    database = new Database(file, { readwrite: true, strict: true });
    database.run("PRAGMA locking_mode=EXCLUSIVE");
    database.run("PRAGMA journal_mode=WAL");
    database.run("PRAGMA synchronous=FULL");
    database.run("BEGIN EXCLUSIVE");
    check(database);
    database.run("COMMIT");
    noteOwner(dir, "");
    return database;
  } catch (error) {
    database?.close();
    if (error instanceof LlmnodeError) throw error;
    throw unusable(dir, reasonOf(dir, error), error);
  }
}

function check(database: Database): void {
  const [sound] = database.query("PRAGMA quick_check(1)").values().flat();
  if (sound !== "ok") throw Object.assign(new Error(String(sound)), { code: "SQLITE_CORRUPT" });
  const [format] = database.query("PRAGMA user_version").values().flat();
  if (typeof format === "number" && format > FORMAT) {
    throw Object.assign(new Error(`format ${format}`), { code: "LLMNODE_NEWER" });
  }
  database.run(
    "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL) WITHOUT ROWID",
  );
  database.run(
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
  );
  database.run(`PRAGMA user_version=${FORMAT}`);
}

export function loadEntries(dir: string, database: Database, entries: Map<string, Entry>): number {
  try {
    return load(database, entries);
  } catch (error) {
    database.close();
    throw unusable(dir, error instanceof SyntaxError ? DAMAGED : reasonOf(dir, error), error);
  }
}

function load(database: Database, entries: Map<string, Entry>): number {
  for (const row of database.query("SELECT key, value, revision FROM entries").values()) {
    const [key, value, revision] = row;
    if (typeof key !== "string" || typeof value !== "string") continue;
    entries.set(key, { key, value: JSON.parse(value), revision: Number(revision) });
  }
  const [revision] = database
    .query("SELECT value FROM meta WHERE name = 'revision'")
    .values()
    .flat();
  return typeof revision === "number" ? revision : 0;
}

export function writeChanges(
  database: Database,
  { changes, revision }: { changes: Iterable<Change>; revision: number },
): void {
  const put = database.query(
    "INSERT INTO entries VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3",
  );
  const remove = database.query("DELETE FROM entries WHERE key = ?1");
  const count = database.query(
    "INSERT INTO meta VALUES ('revision', ?1) ON CONFLICT (name) DO UPDATE SET value = ?1",
  );
  database.transaction(() => {
    for (const { key, value, revision: at } of changes) {
      if (value === undefined) remove.run(key);
      else put.run(key, JSON.stringify(value), at);
    }
    count.run(revision);
  })();
}

const DAMAGED =
  "its store is damaged: start from a backup (llmnode head restore <file> --data-dir <new folder>), or move store.sqlite away, and workers join again with a join token";

function reasonOf(dir: string, error: unknown): string {
  const code = systemCode(error) ?? "";
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return `another head uses it (${ownerOf(dir)})`;
  }
  if (code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_NOTADB") {
    return DAMAGED;
  }
  if (code === "LLMNODE_NEWER") return "it was written by a newer llmnode";
  if (code.startsWith("SQLITE_READONLY") || code === "EROFS") return "it cannot be written";
  return messageOf(error);
}

function ownerOf(dir: string): string {
  try {
    return readFileSync(path.join(dir, "owner"), "utf8").trim();
  } catch {
    return "it has just started";
  }
}

export function unusable(dir: string, why: string, cause?: unknown): LlmnodeError {
  return new LlmnodeError("data_dir_unusable", `cannot keep the head's state in ${dir}: ${why}`, {
    hints: ["choose another folder: llmnode head --data-dir DIR   (or LLMNODE_DATA=DIR)"],
    cause,
  });
}
