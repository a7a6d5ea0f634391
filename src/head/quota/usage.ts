/** Counts what keys use by hour and model: in memory at once, in a file soon after. */

import { LlmnodeError, messageOf } from "../../protocol/errors.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Log } from "../../util/log.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import {
  isDamaged,
  openUsageFile,
  setAside,
  type UsageBy,
  type UsageFile,
  type UsageGroup,
  type UsageRow,
  type UsageSums,
} from "./usage-file.ts";
import { tokensOf } from "./usage-tokens.ts";

export interface UsageOptions {
  /** The head's own folder. */
  dir: string;
  log: Log;
  /** Milliseconds since 1970. */
  now: () => number;
  settings?: Partial<UsageSettings>;
}

export interface UsageSettings {
  /** How long what was used may wait to be written: less than the second that may be lost. */
  flushMs: number;
  /** Hours that are kept. */
  keepHours: number;
  /** Rows in memory that could not be written yet; what comes on top is added up under `other`. */
  maxPending: number;
  /** Rows that an answer may have. */
  maxRows: number;
  /** The least time between two lines about a file that cannot be written. */
  complainMs: number;
}

export const USAGE_DEFAULTS: UsageSettings = {
  flushMs: 500,
  keepHours: 90 * 24,
  maxPending: 50_000,
  maxRows: 20_000,
  complainMs: 60_000,
};

export interface UsageQuestion {
  by: readonly UsageBy[];
  /** Milliseconds since 1970; whole hours count. */
  since: number;
  /** Null: of every key; empty: of requests without one. */
  key: string | null;
  model: string | null;
}

export interface UsageReport {
  /** The beginning of the first hour, and now. */
  since: number;
  until: number;
  /** Sorted by what they are kept apart by. */
  rows: UsageGroup[];
}

export interface Usage extends AsyncDisposable {
  /** To be called once for every request, when it is over. Never throws. */
  note(record: RequestRecord): void;
  /** Input and output tokens of each key since midnight UTC, as written before this head's life. */
  today(): Map<string, number>;
  /** Rejects with `refused` when that are too many rows. */
  report(question: UsageQuestion): Promise<UsageReport>;
}

export const HOUR_MS = 3_600_000;
/** What stands for keys and models where there is no room for more. */
const OTHER = "other";
/** Rows that are written without a turn for the streams in between. */
const WRITTEN_AT_ONCE = 1000;

export function startUsage(options: UsageOptions): Usage {
  const settings = { ...USAGE_DEFAULTS, ...options.settings };
  const { dir, log, now } = options;
  /** By hour, key and model: what is not in the file yet. */
  const pending = new Map<string, UsageRow>();
  /** The one of those that was counted in last: most often the next request is for it too. */
  let latest: UsageRow | null = null;
  let file: UsageFile | null = null;
  let timer: ReturnType<typeof setTimeout> | null = null;
  let complainedAt = Number.NEGATIVE_INFINITY;
  let droppedAt = Number.NEGATIVE_INFINITY;
  let closed = false;

  const hourNow = () => Math.floor(now() / HOUR_MS);
  const failed = (error: unknown): void => {
    file?.[Symbol.dispose]();
    file = null;
    let aside: string | null = null;
    try {
      if (isDamaged(error)) aside = setAside(dir);
    } catch (moving) {
      log.error("a damaged usage file cannot be moved away", { error: messageOf(moving) });
    }
    if (aside !== null) log.error("the usage file is damaged; a new one is begun", { old: aside });
    const at = performance.now();
    if (aside !== null || at - complainedAt < settings.complainMs) return;
    complainedAt = at;
    log.error("usage cannot be written and is kept in memory; trying again", {
      error: messageOf(error),
    });
  };
  /** What `action` gives, or null when the file cannot be used now. */
  const withFile = <T>(action: (file: UsageFile) => T): T | null => {
    try {
      return action((file ??= openUsageFile(dir)));
    } catch (error) {
      failed(error);
      return null;
    }
  };
  /** Whether there may be more to write. */
  const writeSome = (): boolean => {
    const rows = [...pending.entries().take(WRITTEN_AT_ONCE)];
    const written = withFile((open) => {
      open.add(rows.map(([, row]) => row));
      for (const [name] of rows) pending.delete(name);
      latest = null;
      if (hourNow() !== droppedAt) {
        open.dropBefore(hourNow() - settings.keepHours);
        droppedAt = hourNow();
      }
      return true;
    });
    return written === true && pending.size > 0;
  };
  const flushLater = () => {
    timer ??= setTimeout(() => {
      timer = null;
      // In turns: streams wait while this writes.
      const hasMore = writeSome();
      if (hasMore) setImmediate(flushNow);
      else if (pending.size > 0 && !closed) flushLater();
    }, settings.flushMs);
  };
  const flushNow = () => {
    if (closed) return;
    if (writeSome()) setImmediate(flushNow);
    else if (pending.size > 0) flushLater();
  };
  const rowFor = (hour: number, key: string, model: string): UsageRow => {
    if (latest?.hour === hour && latest.key === key && latest.model === model) return latest;
    latest = findRow(hour, key, model);
    return latest;
  };
  const findRow = (hour: number, key: string, model: string): UsageRow => {
    const name = `${hour}\0${key}\0${model}`;
    const found = pending.get(name);
    if (found) return found;
    if (pending.size >= settings.maxPending && key !== OTHER) return findRow(hour, OTHER, OTHER);
    const row = { hour, key, model, ...noUsage() };
    pending.set(name, row);
    return row;
  };
  const groupsNow = (question: UsageQuestion, span: { from: number; until: number }) => {
    const { key, model, by } = question;
    const groups = withFile((open) => open.sums(by, { ...span, key, model })) ?? [];
    for (const row of pending.values()) {
      if (row.hour < span.from || row.hour >= span.until) continue;
      if (key !== null && row.key !== key) continue;
      if (model !== null && row.model !== model) continue;
      groups.push(groupOf(row, by));
    }
    return groups;
  };

  return {
    note(record) {
      const row = rowFor(hourNow(), record.key?.id ?? "", modelOf(record));
      const { input, cachedInput, output, estimated } = tokensOf(record);
      row.requests += 1;
      if (record.status !== 499 && (record.status >= 400 || record.error !== null)) row.errors += 1;
      row.input += input;
      row.cachedInput += cachedInput;
      row.output += output;
      row.estimated += estimated;
      if (timer === null) flushLater();
    },
    today() {
      const hour = hourNow();
      const where = { from: hour - (hour % 24), until: hour + 1, key: null, model: null };
      const sums = withFile((open) => open.sums(["key"], where)) ?? [];
      return new Map(sums.map(({ key, input, output }) => [key ?? "", input + output]));
    },
    async report(question) {
      const until = hourNow() + 1;
      const oldest = until - settings.keepHours;
      const first = Math.max(oldest, Math.floor(question.since / HOUR_MS));
      const merged = new Map<string, UsageGroup>();
      // A day at a time, with turns for the streams in between.
      for (let from = first; from < until;) {
        const next = Math.min(until, from - (from % 24) + 24);
        for (const group of groupsNow(question, { from, until: next })) merge(merged, group);
        if (merged.size > settings.maxRows) throw tooMany(settings.maxRows);
        from = next;
        await new Promise((resolve) => setImmediate(resolve));
      }
      const rows = [...merged.values()].sort(inOrder);
      return { since: first * HOUR_MS, until: now(), rows };
    },
    async [Symbol.asyncDispose]() {
      if (closed) return;
      closed = true;
      if (timer !== null) clearTimeout(timer);
      while (pending.size > 0 && writeSome());
      if (pending.size > 0) log.error("usage could not be written", { rows: pending.size });
      file?.[Symbol.dispose]();
      file = null;
    },
  };
}

/** The name that was asked for, where it is one: clients may send any text. */
function modelOf(record: RequestRecord): string {
  return (record.modelKnown ? record.model : null) ?? UNRESOLVED;
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

function merge(groups: Map<string, UsageGroup>, group: UsageGroup): void {
  const { hour, day, key, model } = group;
  const name = [hour, day, key, model].join("\0");
  const found = groups.get(name);
  if (!found) {
    groups.set(name, { ...group });
    return;
  }
  for (const sum of SUMS) found[sum] += group[sum];
}

/** Nothing used. */
export function noUsage(): UsageSums {
  return { requests: 0, errors: 0, input: 0, cachedInput: 0, output: 0, estimated: 0 };
}

export const SUMS = ["requests", "errors", "input", "cachedInput", "output", "estimated"] as const;

function inOrder(a: UsageGroup, b: UsageGroup): number {
  return (
    (a.day ?? 0) - (b.day ?? 0) ||
    (a.hour ?? 0) - (b.hour ?? 0) ||
    compare(a.key ?? "", b.key ?? "") ||
    compare(a.model ?? "", b.model ?? "")
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function tooMany(max: number): LlmnodeError {
  return new LlmnodeError("refused", `That are more than ${max} rows: ask for less of it.`, {
    hints: ["a shorter --since, one --key or --model, or another --by"],
  });
}
