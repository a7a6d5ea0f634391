/** What must outlive the head: keys with values, revisions and watchers, in one SQLite file. */

// It is read whole at start and kept in memory; the file is its journal. Several heads will share
// what they know by another store behind the same few functions: SQLite's own ways stay in here.

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import {
  type Change,
  type Entry,
  loadEntries,
  openFile,
  prepareFolder,
  unusable,
  writeChanges,
} from "./file.ts";

export interface StoreOptions {
  /** The head's own folder; it is made if it is not there. */
  dir: string;
  log: Log;
  /** How long a change that is not durable may wait to be written. */
  writeBehindMs?: number;
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

/** Throws `data_dir_unusable`: on a network, in use by another head, damaged, not writable. */
export function openStore(options: StoreOptions): Store {
  const { dir, log } = options;
  prepareFolder(dir);
  const database = openFile(dir);
  const entries = new Map<string, Entry>();
  const watchers = createWatchers();
  /** The latest change of each key that is not on disk yet. */
  const pending = new Map<string, Change>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let revision = loadEntries(dir, database, entries);
  const note = createWriteNotes(options);

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    if (pending.size === 0) return;
    writeChanges(database, { changes: pending.values(), revision });
    note.success();
    pending.clear();
  };
  const flushLater = () => {
    timer ??= setTimeout(() => {
      timer = undefined;
      try {
        flush();
      } catch (error) {
        note.failure(error);
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
        writeChanges(database, { changes, revision: next.revision });
      } catch (error) {
        note.failure(error);
        throw unusable(dir, `cannot write there: ${messageOf(error)}`, error);
      }
      note.success();
      pending.clear();
    } else {
      pending.set(key, next);
      flushLater();
    }
    revision = next.revision;
    if (value === undefined) entries.delete(key);
    else entries.set(key, next);
    watchers.notify(next);
  };

  return {
    get revision() {
      return revision;
    },
    get: (key) => entries.get(key) ?? null,
    list: (prefix) => listed(entries, prefix),
    put: (key, value, how) => change(key, structuredClone(value), how),
    delete: async (key, how) => {
      if (entries.has(key)) await change(key, undefined, how);
    },
    watch: watchers.add,
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

function listed(entries: ReadonlyMap<string, Entry>, prefix: string): Entry[] {
  return [...entries.values()]
    .filter(({ key }) => key.startsWith(prefix))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** One line when writing begins to fail, and one when it works again. */
function createWriteNotes({ dir, log }: StoreOptions) {
  let isFailing = false;
  return {
    failure(error: unknown): void {
      if (!isFailing) {
        const what = "the head's store cannot be written; requests go on, and changes are refused";
        log.error(what, { dir, error: messageOf(error) });
      }
      isFailing = true;
    },
    success(): void {
      if (isFailing) log.info("the head's store can be written again", { dir });
      isFailing = false;
    },
  };
}

function createWatchers() {
  const watchers = new Set<{ prefix: string; listener: (change: Change) => void }>();
  return {
    add(prefix: string, listener: (change: Change) => void): () => void {
      const watcher = { prefix, listener };
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
    notify(change: Change): void {
      for (const { prefix, listener } of [...watchers]) {
        if (change.key.startsWith(prefix)) listener(change);
      }
    },
  };
}
