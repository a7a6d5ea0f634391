/** What must outlive the head: keys with values, revisions and watchers, in one SQLite file. */

// It is read whole at start and kept in memory; the file is its journal. Several heads will share
// what they know by another store behind the same few functions: SQLite's own ways stay in here.

import { Database } from "bun:sqlite";
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { LlmnodeError, messageOf, systemCode } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { networkFileSystemOf } from "../util/mounts.ts";

export interface StoreOptions {
  /** The head's own folder; it is made if it is not there. */
  dir: string;
  log: Log;
  /** How long a change that is not durable may wait to be written. */
  writeBehindMs?: number;
}

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

export interface WriteOptions {
  /** On disk before the promise settles; otherwise within `writeBehindMs`. */
  durable: boolean;
}

export interface Store extends AsyncDisposable {
  /** Counts all changes there ever were. */
  readonly revision: number;
  get(key: string): Entry | null;
  /** The entries whose keys begin with `prefix`, sorted by key. */
  list(prefix: string): Entry[];
  /** `value` is JSON. A durable write that fails changes nothing and rejects. */
  put(key: string, value: unknown, options: WriteOptions): Promise<void>;
  delete(key: string, options: WriteOptions): Promise<void>;
  /** Calls `listener` after each change below `prefix`; the result ends that. */
  watch(prefix: string, listener: (change: Change) => void): () => void;
}

const FORMAT = 1;

/** Throws `data_dir_unusable`: on a network, in use by another head, damaged, not writable. */
export function openStore(options: StoreOptions): Store {
  const { dir, log } = options;
  prepare(dir);
  const database = open(dir);
  const entries = new Map<string, Entry>();
  const watchers = new Set<{ prefix: string; listener: (change: Change) => void }>();
  /** The latest change of each key that is not on disk yet. */
  const pending = new Map<string, Change>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let revision = load(database, entries);

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (pending.size === 0) return;
    write(database, { changes: pending.values(), revision });
    pending.clear();
  };
  const flushLater = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      try {
        flush();
      } catch (error) {
        log.error("the head's store cannot be written; trying again", { error: messageOf(error) });
        if (!closed) flushLater();
      }
    }, options.writeBehindMs ?? 1000);
  };
  const change = async (key: string, value: unknown, { durable }: WriteOptions): Promise<void> => {
    if (closed) throw new LlmnodeError("shutting_down", "The head is stopping.");
    const next: Change = { key, value, revision: revision + 1 };
    if (durable) {
      // One transaction with what waited before it, so that no later change outlives an earlier one.
      try {
        const changes = [...[...pending.values()].filter((one) => one.key !== key), next];
        write(database, { changes, revision: next.revision });
      } catch (error) {
        throw unusable(dir, `cannot write there: ${messageOf(error)}`, error);
      }
      pending.clear();
    } else {
      pending.set(key, next);
      flushLater();
    }
    revision = next.revision;
    if (value === undefined) entries.delete(key);
    else entries.set(key, next);
    for (const { prefix, listener } of [...watchers]) if (key.startsWith(prefix)) listener(next);
  };

  return {
    get revision() {
      return revision;
    },
    get: (key) => entries.get(key) ?? null,
    list: (prefix) =>
      [...entries.values()]
        .filter(({ key }) => key.startsWith(prefix))
        .sort((a, b) => (a.key < b.key ? -1 : 1)),
    put: (key, value, how) => change(key, structuredClone(value), how),
    delete: async (key, how) => {
      if (entries.has(key)) await change(key, undefined, how);
    },
    watch(prefix, listener) {
      const watcher = { prefix, listener };
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    async [Symbol.asyncDispose]() {
      if (closed) return;
      closed = true;
      try {
        flush();
        database.run("PRAGMA wal_checkpoint(TRUNCATE)");
      } catch (error) {
        log.error("the head's last changes could not be written", { error: messageOf(error) });
      }
      database.close();
    },
  };
}

/** Notes what is told to another head that wants the same folder, such as our address. */
export function noteOwner(dir: string, where: string): void {
  const text = [`pid ${process.pid}`, where].filter(Boolean).join(", ");
  writeFileSync(path.join(dir, "owner"), `${text}\n`, { mode: 0o600 });
}

function prepare(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    chmodSync(dir, 0o700);
  } catch (error) {
    throw unusable(dir, messageOf(error), error);
  }
  const network = networkFileSystemOf(dir);
  if (network === null) return;
  throw unusable(
    dir,
    `it lies on a network file system (${network}), where nothing is sure to be kept`,
  );
}

/** The lock is the database's own: held by the kernel until this process ends, however it ends. */
function open(dir: string): Database {
  const file = path.join(dir, "store.sqlite");
  let database: Database | null = null;
  try {
    // Made by us, so that nobody else may ever read it; the journals take its mode over.
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

function write(
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

function reasonOf(dir: string, error: unknown): string {
  const code = systemCode(error) ?? "";
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return `another head uses it (${ownerOf(dir)})`;
  }
  if (code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_NOTADB") {
    return "its store is damaged: put a copy back, or move store.sqlite away, and workers join anew with a join token";
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

function unusable(dir: string, why: string, cause?: unknown): LlmnodeError {
  return new LlmnodeError("data_dir_unusable", `cannot keep the head's state in ${dir}: ${why}`, {
    hints: ["choose another folder: llmnode head --data-dir DIR   (or LLMNODE_DATA=DIR)"],
    cause,
  });
}
