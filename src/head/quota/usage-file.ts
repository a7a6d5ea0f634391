/** The table of what was used by hour, key and model, in a SQLite file of its own. */

// Not in the head's store: that is small, kept in memory whole, and read at every start.

import { Database } from "bun:sqlite";
import { closeSync, openSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { systemCode } from "../../protocol/errors.ts";

/** What is added up: requests, and their tokens. */
export const SUMS = ["requests", "errors", "input", "cachedInput", "output", "estimated"] as const;

/** `cachedInput` is the part of `input` from the engine's cache, `estimated` what no engine has said. */
export type UsageSums = Record<(typeof SUMS)[number], number>;

export interface UsageRow extends UsageSums {
  /** Hours since 1970, UTC. */
  hour: number;
  /** A key's id; empty: asked without a key. */
  key: string;
  model: string;
}

/** What sums are kept apart by; a day is one of UTC. */
export const USAGE_BY = ["hour", "day", "key", "model"] as const;
export type UsageBy = (typeof USAGE_BY)[number];

export interface UsageGroup
  extends
    UsageSums,
    Record<"hour" | "day", number | null>,
    Record<"key" | "model", string | null> {}

export interface UsageWhere {
  /** From this hour on, and up to the other without it. */
  from: number;
  until: number;
  /** Null: of every key. */
  key: string | null;
  model: string | null;
}

/** Its functions throw what SQLite throws: a full disk, a file that cannot be written or is none. */
export interface UsageFile extends Disposable {
  /** All of them, or none. */
  add(rows: Iterable<UsageRow>): void;
  sums(by: readonly UsageBy[], where: UsageWhere): UsageGroup[];
  /** Drops what is older than this hour. */
  dropBefore(hour: number): void;
}

export const USAGE_FILE = "usage.sqlite";

const SUM_COLUMNS = "requests, errors, input, cached_input, output, estimated";
const COLUMNS: Record<UsageBy, string> = {
  hour: "hour",
  day: "hour / 24",
  key: "key",
  model: "model",
};

export function openUsageFile(dir: string): UsageFile {
  const file = path.join(dir, USAGE_FILE);
  // Made by us, so that no other user can ever read it; the journals take its mode over.
  closeSync(openSync(file, "a", 0o600));
  const database = new Database(file, { readwrite: true, strict: true });
  try {
    database.run("PRAGMA journal_mode=WAL");
    // What a process that is killed has written is safe; only a machine that stops may lose some.
    database.run("PRAGMA synchronous=NORMAL");
    database.run(
      `CREATE TABLE IF NOT EXISTS usage (
        hour INTEGER NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
        requests INTEGER NOT NULL, errors INTEGER NOT NULL, input INTEGER NOT NULL,
        cached_input INTEGER NOT NULL, output INTEGER NOT NULL, estimated INTEGER NOT NULL,
        PRIMARY KEY (hour, key, model)) WITHOUT ROWID`,
    );
  } catch (error) {
    database.close();
    throw error;
  }
  const insert = database.query(
    `INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
     ON CONFLICT (hour, key, model) DO UPDATE SET requests = requests + ?4, errors = errors + ?5,
       input = input + ?6, cached_input = cached_input + ?7, output = output + ?8,
       estimated = estimated + ?9`,
  );
  return {
    add(rows) {
      database.transaction(() => {
        for (const { hour, key, model, ...sums } of rows) {
          const { requests, errors, input, cachedInput, output, estimated } = sums;
          insert.run(hour, key, model, requests, errors, input, cachedInput, output, estimated);
        }
      })();
    },
    sums(by, { from, until, key, model }) {
      const names = USAGE_BY.map((name) => (by.includes(name) ? COLUMNS[name] : "NULL"));
      const groups = by.map((name) => COLUMNS[name]);
      const total = SUM_COLUMNS.replaceAll(/\w+/g, "sum($&)");
      const rows = database
        .query(
          `SELECT ${names.join(", ")}, ${total} FROM usage
           WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR key = ?3)
             AND (?4 IS NULL OR model = ?4)
           ${groups.length === 0 ? "HAVING count(*) > 0" : `GROUP BY ${groups.join(", ")}`}`,
        )
        .values(from, until, key, model);
      return rows.map(groupOf);
    },
    dropBefore: (hour) => void database.run("DELETE FROM usage WHERE hour < ?1", [hour]),
    [Symbol.dispose]: () => database.close(),
  };
}

/** Whether the file is no table of ours, or no longer: nothing will ever be written to it again. */
export function isDamaged(error: unknown): boolean {
  const code = systemCode(error) ?? "";
  return code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_NOTADB";
}

/** Puts a damaged file out of the way, for people to look at; the one before it is dropped. */
export function setAside(dir: string): string {
  const file = path.join(dir, USAGE_FILE);
  const aside = `${file}.damaged`;
  renameSync(file, aside);
  for (const journal of ["-wal", "-shm"]) rmSync(`${file}${journal}`, { force: true });
  return aside;
}

function groupOf(row: unknown[]): UsageGroup {
  const [hour, day, key, model, ...sums] = row;
  const [requests, errors, input, cachedInput, output, estimated] = sums.map(Number);
  return {
    hour: typeof hour === "number" ? hour : null,
    day: typeof day === "number" ? day : null,
    key: typeof key === "string" ? key : null,
    model: typeof model === "string" ? model : null,
    requests: requests ?? 0,
    errors: errors ?? 0,
    input: input ?? 0,
    cachedInput: cachedInput ?? 0,
    output: output ?? 0,
    estimated: estimated ?? 0,
  };
}
