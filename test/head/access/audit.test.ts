import { expect, test } from "bun:test";
import { appendFileSync, mkdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { AUDIT_FILE, type AuditOptions, createAudit } from "../../../src/head/access/audit.ts";
import type { Caller } from "../../../src/protocol/caller.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { tempDir } from "../../helpers/temp.ts";

const ADMIN: Caller = { key: null, address: "127.0.0.1", role: "admin" };
const AT = Date.UTC(2026, 0, 1);

function opened(dir: string, more: Partial<AuditOptions> = {}) {
  const { log, lines } = memoryLog();
  const clock = { ms: AT };
  const audit = createAudit({ dir, log, now: () => clock.ms, ...more });
  const note = (body: Record<string, unknown>, caller = ADMIN) => {
    audit.note({ caller, action: "POST /api/v1/x", body, result: "ok", requestId: "req-1" });
    clock.ms += 1000;
  };
  return { audit, note, lines, file: path.join(dir, AUDIT_FILE) };
}

test("who, what, when and from where are kept, also by another life, and by nobody else read", () => {
  using dir = tempDir();
  const { note, file } = opened(dir.path);
  note({ workers: ["gpu-1"], force: true, deadline_ms: null });
  const key = {
    id: "k1",
    name: "bob\u001b[31m",
    role: "operator" as const,
    models: null,
    limits: {
      requestsPerMinute: null,
      tokensPerMinute: null,
      concurrency: null,
      tokensPerDay: null,
    },
    allows: () => true,
  };
  note({ id: "k2" }, { key, address: "10.0.0.9", role: "operator" });
  const { audit } = opened(dir.path);
  expect(audit.read({ sinceMs: 0, limit: 10 })).toEqual([
    {
      at: "2026-01-01T00:00:00.000Z",
      who: "admin token",
      address: "127.0.0.1",
      action: "POST /api/v1/x",
      target: { workers: ["gpu-1"], force: true },
      result: "ok",
      request_id: "req-1",
    },
    expect.objectContaining({ address: "10.0.0.9", target: { id: "k2" } }),
  ]);
  expect(audit.read({ sinceMs: 0, limit: 10 })[1]?.who).not.toContain("\u001b");
  expect(audit.read({ sinceMs: AT + 500, limit: 10 })).toHaveLength(1);
  expect(audit.read({ sinceMs: 0, limit: 1 })[0]?.target).toEqual({ id: "k2" });
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("what is not known to be harmless is left out, and what looks like a secret is masked", () => {
  using dir = tempDir();
  const { note, file } = opened(dir.path);
  note({
    token: "abcdef-token",
    key: "sk-ln-whole-key",
    password: "hunter2-long",
    name: "for sk-ln-0123456789ab-0123456789012345678901234567890123456789",
    models: ["a", { deep: "hunter2-long" }],
    note: "x".repeat(5000),
  });
  const text = readFileSync(file, "utf8");
  for (const secret of ["abcdef-token", "sk-ln-whole", "hunter2", "0123456789ab-"]) {
    expect(text).not.toContain(secret);
  }
  expect(text.length).toBeLessThan(1000);
});

test("a full file gives way, and so many are kept", () => {
  using dir = tempDir();
  const { audit, note, file } = opened(dir.path, { maxBytes: 400, keep: 2 });
  for (let number = 0; number < 30; number += 1) note({ id: `n${number}` });
  const ids = audit.read({ sinceMs: 0, limit: 100 }).map(({ target }) => target["id"]);
  expect(ids.at(-1)).toBe("n29");
  expect(ids.length).toBeGreaterThan(3);
  expect(ids.length).toBeLessThan(12);
  expect(ids).toEqual(Array.from({ length: ids.length }, (_, i) => `n${30 - ids.length + i}`));
  expect(statSync(`${file}.2`).isFile()).toBe(true);
  expect(statSync(`${file}.3`, { throwIfNoEntry: false })).toBeUndefined();
});

test("a line that a crash has cut hides no other", () => {
  using dir = tempDir();
  const { audit, note, file } = opened(dir.path);
  note({ id: "before" });
  appendFileSync(file, '{"at":"2026-01-01T00:0\n7\n');
  note({ id: "after" });
  const ids = audit.read({ sinceMs: 0, limit: 100 }).map(({ target }) => target["id"]);
  expect(ids).toEqual(["before", "after"]);
});

test("a folder that cannot be written is told, with what was done", () => {
  using dir = tempDir();
  const where = path.join(dir.path, "head");
  mkdirSync(where);
  // Not even root can open a folder as a file.
  mkdirSync(path.join(where, AUDIT_FILE));
  const { note, lines } = opened(where);
  note({ id: "done all the same" });
  expect(lines.join("\n")).toContain("the audit log cannot be written");
  expect(lines.join("\n")).toContain("done all the same");
});
