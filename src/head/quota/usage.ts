/** Counts what keys use by hour and model: in memory at once, in a file soon after. */

import { LlmnodeError } from "../../protocol/errors.ts";
import { UNRESOLVED } from "../../proxy/record/record-facts.ts";
import type { RequestRecord } from "../../proxy/record/record.ts";
import type { Log } from "../../util/log.ts";
import { UsageBuffer } from "./usage-buffer.ts";
import { SUMS, type UsageBy, type UsageGroup } from "./usage-file.ts";
import { tokensOf } from "./usage-tokens.ts";

export interface UsageOptions {
  /** The head's own folder. */
  dir: string;
  log: Log;
  /** Milliseconds since 1970. */
  now: () => number;
  settings?: Partial<UsageSettings>;
}

export type UsageSettings = typeof USAGE_DEFAULTS;

const USAGE_DEFAULTS = {
  /** How long what was used may wait to be written: less than the second that may be lost. */
  flushMs: 500,
  keepHours: 90 * 24,
  /** Rows in memory that could not be written yet; what comes on top is added up under `other`. */
  maxPending: 50_000,
  /** Rows that an answer may have. */
  maxRows: 20_000,
  /** The least time between two lines about a file that cannot be written. */
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
export function startUsage(options: UsageOptions): Usage {
  const settings = { ...USAGE_DEFAULTS, ...options.settings };
  const { dir, log, now } = options;
  const hourNow = () => Math.floor(now() / HOUR_MS);
  const buffer = new UsageBuffer({ ...settings, dir, log, hour: hourNow });
  let timer: ReturnType<typeof setTimeout> | null = null;
  let closed = false;

  /** In turns: streams wait while this writes. */
  const flushNow = () => {
    if (closed) return;
    if (buffer.writeSome()) setImmediate(flushNow);
    else if (buffer.size > 0) flushLater();
  };
  const flushLater = () => {
    timer ??= setTimeout(() => {
      timer = null;
      flushNow();
    }, settings.flushMs);
  };

  return {
    note(record) {
      const row = buffer.rowFor(record.key?.id ?? "", modelOf(record));
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
      const sums = buffer.written(["key"], where);
      return new Map(sums.map(({ key, input, output }) => [key ?? "", input + output]));
    },
    async report({ by, since, key, model }) {
      const until = hourNow() + 1;
      const oldest = until - settings.keepHours;
      const first = Math.max(oldest, Math.floor(since / HOUR_MS));
      const merged = new Map<string, UsageGroup>();
      // A day at a time, with turns for the streams in between.
      for (let from = first; from < until;) {
        const next = Math.min(until, from - (from % 24) + 24);
        const where = { from, until: next, key, model };
        for (const group of buffer.sums(by, where)) merge(merged, group);
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
      buffer.close();
    },
  };
}

/** The name that was asked for, where it is one: clients may send any text. */
function modelOf(record: RequestRecord): string {
  return (record.modelKnown ? record.model : null) ?? UNRESOLVED;
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
  const message = `The answer has more than ${max} rows: narrow the question down.`;
  const hints = ["a shorter --since, one --key or --model, or another --by"];
  return new LlmnodeError("refused", message, { hints });
}
