/** Who had what done, when and from where: an append-only file, one JSON object a line. */

import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import path from "node:path";
import { messageOf } from "../../protocol/errors.ts";
import { readIfThere } from "../../protocol/head-files.ts";
import type { Caller } from "../../protocol/caller.ts";
import type { Log } from "../../util/log.ts";
import { maskSecrets } from "../../util/mask.ts";
import { cleanLine } from "../../util/text.ts";
import { isRecord, parseJson } from "../../util/json.ts";

export interface AuditOptions {
  /** The head's own folder. */
  dir: string;
  log: Log;
  /** Milliseconds since 1970. */
  now: () => number;
  /** A file that has reached this gives way to a new one. */
  maxBytes?: number;
  /** Earlier files that are kept. */
  keep?: number;
}

export interface AuditEntry {
  /** RFC 3339, UTC. */
  at: string;
  /** `admin token`, or `key <id> (<name>)`. */
  who: string;
  address: string;
  /** What was asked for: `POST /api/v1/workers/drain`. */
  action: string;
  /** What it was about. */
  target: Record<string, unknown>;
  /** `ok`, or the code of the error. */
  result: string;
  request_id: string;
}

export interface AuditedAction extends Pick<AuditEntry, "action" | "result"> {
  caller: Caller;
  body: Record<string, unknown>;
  requestId: string;
}

export interface Audit {
  /** On disk when it returns. A disk that cannot be written is told in the log; nothing is thrown. */
  note(action: AuditedAction): void;
  /** The latest ones since then, in milliseconds since 1970; the oldest of them first. */
  read(wanted: { sinceMs: number; limit: number }): AuditEntry[];
}

export const AUDIT_FILE = "audit.jsonl";

/** Fields of requests that say what is meant; none of them is a secret. */
const AUDITED_FIELDS: readonly string[] = [
  "alias",
  "concurrency",
  "deadline_ms",
  "dry_run",
  "engine",
  "engines",
  "expires_in_ms",
  "force",
  "id",
  "message",
  "models",
  "name",
  "note",
  "purge",
  "request",
  "requests_per_minute",
  "role",
  "tokens_per_day",
  "tokens_per_minute",
  "uses",
  "who",
  "worker",
  "workers",
];
const MAX_TEXT = 200;
const MAX_ITEMS = 50;

export function createAudit(options: AuditOptions): Audit {
  const { dir, log, now, maxBytes = 10 * 1024 * 1024, keep = 5 } = options;
  const file = path.join(dir, AUDIT_FILE);
  const earlier = (number: number) => `${file}.${number}`;

  const makeRoom = () => {
    if ((sizeOf(file) ?? 0) < maxBytes) return;
    rmSync(earlier(keep), { force: true });
    for (let number = keep - 1; number >= 1; number -= 1) {
      if (sizeOf(earlier(number)) !== null) renameSync(earlier(number), earlier(number + 1));
    }
    renameSync(file, earlier(1));
  };
  const append = (text: string) => {
    makeRoom();
    const fd = openSync(file, "a", 0o600);
    try {
      writeSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  };

  return {
    note({ caller, action, body, result, requestId }) {
      const entry: AuditEntry = {
        at: new Date(now()).toISOString(),
        who: whoOf(caller),
        address: caller.address,
        action,
        target: targetOf(body),
        result,
        request_id: requestId,
      };
      try {
        append(`${JSON.stringify(entry)}\n`);
      } catch (error) {
        // The action is done already: the log has it at least.
        log.error("the audit log cannot be written", { error: messageOf(error), ...flat(entry) });
      }
    },
    read({ sinceMs, limit }) {
      const found: AuditEntry[] = [];
      const files = [file, ...Array.from({ length: keep }, (_, index) => earlier(index + 1))];
      for (const one of files) {
        for (const line of (readIfThere(one) ?? "").split("\n").reverse()) {
          const entry = entryOf(line);
          if (!entry) continue;
          if (found.length >= limit || Date.parse(entry.at) < sinceMs) return found.reverse();
          found.push(entry);
        }
      }
      return found.reverse();
    },
  };
}

function whoOf({ key }: Caller): string {
  return key === null ? "admin token" : `key ${key.id} (${cleanLine(key.name, 80)})`;
}

/** Never a secret: only fields that are known to have none, and in them nothing that looks like one. */
function targetOf(body: Record<string, unknown>): Record<string, unknown> {
  const shown = Object.entries(body).filter(
    ([name, value]) => AUDITED_FIELDS.includes(name) && value !== null && value !== undefined,
  );
  return Object.fromEntries(shown.map(([name, value]) => [name, plain(value)]));
}

function plain(value: unknown): unknown {
  if (typeof value === "string") return maskSecrets(cleanLine(value, MAX_TEXT));
  if (typeof value === "number" || typeof value === "boolean") return value;
  if (!Array.isArray(value)) return "?";
  return value.slice(0, MAX_ITEMS).map((one) => (typeof one === "string" ? plain(one) : "?"));
}

function flat({ target, ...rest }: AuditEntry): Record<string, string> {
  return { ...rest, target: JSON.stringify(target) };
}

function sizeOf(file: string): number | null {
  return statSync(file, { throwIfNoEntry: false })?.size ?? null;
}

/** Null for a line that a crash has cut. */
function entryOf(line: string): AuditEntry | null {
  const value = parseJson(line);
  return isEntry(value) ? value : null;
}

function isEntry(value: unknown): value is AuditEntry {
  return isRecord(value) && "at" in value && "action" in value;
}
