/** What was used: rows that are not written yet, and the file behind them, which may fail meanwhile. */

import { messageOf } from "../../protocol/errors.ts";
import type { Log } from "../../util/log.ts";
import {
  isDamaged,
  openUsageFile,
  setAside,
  type UsageBy,
  type UsageFile,
  type UsageGroup,
  type UsageRow,
  type UsageSums,
  type UsageWhere,
} from "./usage-file.ts";

export interface UsageBufferOptions {
  /** The head's own folder. */
  dir: string;
  log: Log;
  /** Hours since 1970. */
  hour: () => number;
  /** Hours that are kept. */
  keepHours: number;
  /** Rows in memory that could not be written yet; what comes on top is added up under `other`. */
  maxPending: number;
  /** The least time between two lines about a file that cannot be written. */
  complainMs: number;
}

/** What stands for keys and models where there is no room for more. */
const OTHER = "other";
/** Rows that are written without a turn for the streams in between. */
const WRITTEN_AT_ONCE = 1000;

export class UsageBuffer {
  readonly #options: UsageBufferOptions;
  /** By hour, key and model: what is not in the file yet. */
  readonly #pending = new Map<string, UsageRow>();
  /** The one of those that was counted in last: most often the next request is for it too. */
  #latest: UsageRow | null = null;
  #file: UsageFile | null = null;
  #complainedAt = Number.NEGATIVE_INFINITY;
  #droppedAt = Number.NEGATIVE_INFINITY;

  constructor(options: UsageBufferOptions) {
    this.#options = options;
  }

  /** Rows that are not written yet. */
  get size(): number {
    return this.#pending.size;
  }

  /** The row of this hour to count in. */
  rowFor(key: string, model: string): UsageRow {
    const hour = this.#options.hour();
    const latest = this.#latest;
    if (latest?.hour === hour && latest.key === key && latest.model === model) return latest;
    return (this.#latest = this.#find(hour, key, model));
  }

  /** Whether there may be more to write. */
  writeSome(): boolean {
    const { hour, keepHours } = this.#options;
    const rows = [...this.#pending.entries().take(WRITTEN_AT_ONCE)];
    const written = this.#withFile((file) => {
      file.add(rows.map(([, row]) => row));
      for (const [name] of rows) this.#pending.delete(name);
      this.#latest = null;
      if (hour() !== this.#droppedAt) {
        file.dropBefore(hour() - keepHours);
        this.#droppedAt = hour();
      }
      return true;
    });
    return written === true && this.#pending.size > 0;
  }

  /** Of what is in the file. */
  written(by: readonly UsageBy[], where: UsageWhere): UsageGroup[] {
    return this.#withFile((file) => file.sums(by, where)) ?? [];
  }

  /** Of all; what is in the file and what is not come as groups of their own. */
  sums(by: readonly UsageBy[], where: UsageWhere): UsageGroup[] {
    const { from, until, key, model } = where;
    const fresh = [...this.#pending.values()].filter(
      (row) =>
        row.hour >= from &&
        row.hour < until &&
        (key === null || row.key === key) &&
        (model === null || row.model === model),
    );
    return [...this.written(by, where), ...fresh.map((row) => groupOf(row, by))];
  }

  /** Writes what it can. */
  close(): void {
    while (this.size > 0 && this.writeSome());
    if (this.size > 0) {
      this.#options.log.error("usage could not be written", { rows: this.size });
    }
    this.#closeFile();
  }

  #find(hour: number, key: string, model: string): UsageRow {
    const name = `${hour}\0${key}\0${model}`;
    const found = this.#pending.get(name);
    if (found) return found;
    if (this.#pending.size >= this.#options.maxPending && key !== OTHER) {
      return this.#find(hour, OTHER, OTHER);
    }
    const row = { hour, key, model, ...noUsage() };
    this.#pending.set(name, row);
    return row;
  }

  /** What `action` gives, or null when the file cannot be used now. */
  #withFile<T>(action: (file: UsageFile) => T): T | null {
    try {
      return action((this.#file ??= openUsageFile(this.#options.dir)));
    } catch (error) {
      this.#failed(error);
      return null;
    }
  }

  #failed(error: unknown): void {
    const { dir, log, complainMs } = this.#options;
    this.#closeFile();
    let aside: string | null = null;
    try {
      if (isDamaged(error)) aside = setAside(dir);
    } catch (moving) {
      log.error("a damaged usage file cannot be moved aside", { error: messageOf(moving) });
    }
    if (aside !== null)
      log.error("the usage file is damaged; a new one is started", { old: aside });
    const at = performance.now();
    if (aside !== null || at - this.#complainedAt < complainMs) return;
    this.#complainedAt = at;
    log.error("usage cannot be written and is kept in memory; trying again", {
      error: messageOf(error),
    });
  }

  #closeFile(): void {
    this.#file?.[Symbol.dispose]();
    this.#file = null;
  }
}

/** Nothing used. */
export function noUsage(): UsageSums {
  return { requests: 0, errors: 0, input: 0, cachedInput: 0, output: 0, estimated: 0 };
}

function groupOf(row: UsageRow, by: readonly UsageBy[]): UsageGroup {
  const { hour, key, model } = row;
  return {
    ...row,
    hour: by.includes("hour") ? hour : null,
    day: by.includes("day") ? Math.floor(hour / 24) : null,
    key: by.includes("key") ? key : null,
    model: by.includes("model") ? model : null,
  };
}
