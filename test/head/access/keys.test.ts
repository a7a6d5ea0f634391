import { afterEach, beforeEach, expect, test } from "bun:test";
import path from "node:path";
import fc from "fast-check";
import { formatKey, newKeyText, parseKey } from "../../../src/head/access/key-text.ts";
import { type Keys, type KeyRequest, openKeys } from "../../../src/head/access/keys.ts";
import { openStore, type Store } from "../../../src/head/store/store.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { NO_LIMITS } from "../../../src/protocol/caller.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";

const WISH: KeyRequest = {
  name: "alice",
  role: "user",
  models: null,
  limits: NO_LIMITS,
  expiresInMs: null,
};

let dir: TempDir;
let store: Store;
let clock: number;
let lines: string[];
beforeEach(() => {
  dir = tempDir();
  clock = Date.UTC(2026, 0, 1);
  lines = [];
  open();
});
afterEach(async () => {
  await store[Symbol.asyncDispose]();
  dir[Symbol.dispose]();
});

function open(): void {
  store = openStore({ dir: path.join(dir.path, "head"), log: memoryLog().log });
}

function keys(more: { maxKeys?: number } = {}): Keys {
  const memory = memoryLog();
  lines = memory.lines;
  return openKeys({ store, log: memory.log, now: () => clock, ...more });
}

const codeOf = (error: unknown) => (error instanceof LlmnodeError ? error.code : String(error));

test("a key is shown once and kept as a hash; it lets in whoever shows it", async () => {
  using all = keys();
  const { key, info } = await all.create({ ...WISH, models: ["q*", "m"] });
  expect(key).toMatch(/^sk-ln-[0-9A-Za-z]{12}-[0-9A-Za-z]{40}$/);
  const secret = parseKey(key)?.secret ?? "";
  expect(JSON.stringify([store.list(""), all.list(), info])).not.toContain(secret);
  const found = all.check(key);
  if (!found.ok) throw new Error(found.message);
  expect(found.key).toMatchObject({
    id: info.id,
    name: "alice",
    role: "user",
    models: ["q*", "m"],
  });
  expect(["qwen", "m", "n", "mm"].map(found.key.allows)).toEqual([true, true, false, false]);
});

test.each([
  ["no key at all", () => "sk-abc", "unknown"],
  ["another head's", () => formatKey(newKeyText()), "unknown"],
  [
    "another's secret",
    (key: string) => key.slice(0, -1) + (key.endsWith("a") ? "b" : "a"),
    "wrong",
  ],
  ["cut", (key: string) => key.slice(0, -3), "wrong"],
  ["with a space", (key: string) => `${key} `, "unknown"],
  ["empty", () => "", "unknown"],
] as const)("%s is refused", async (_, change, reason) => {
  using all = keys();
  const { key } = await all.create(WISH);
  expect(all.check(change(key))).toMatchObject({ ok: false, reason });
});

test("an end of a key counts at once, and outlives the head", async () => {
  const first = keys();
  const brief = await first.create({ ...WISH, expiresInMs: 1000 });
  clock += 1;
  const revoked = await first.create(WISH);
  clock += 1;
  const good = await first.create({ ...WISH, limits: { ...NO_LIMITS, concurrency: 2 } });
  await first.revoke(revoked.info.id, { purge: false });
  clock += 1000;
  const reasons = (all: Keys) =>
    [brief, revoked, good].map(({ key }) => {
      const found = all.check(key);
      return found.ok ? found.key.limits.concurrency : found.reason;
    });
  expect(reasons(first)).toEqual(["expired", "revoked", 2]);
  expect(first.list().map(({ state }) => state)).toEqual(["expired", "revoked", "active"]);
  first[Symbol.dispose]();
  await store[Symbol.asyncDispose]();
  open();
  using again = keys();
  expect(reasons(again)).toEqual(["expired", "revoked", 2]);
  expect(again.size).toBe(3);
});

test("what is purged is as if never made; what is not there cannot be revoked", async () => {
  using all = keys();
  const { key, info } = await all.create(WISH);
  expect(await all.revoke(info.id, { purge: true })).toMatchObject({ state: "revoked" });
  expect(all.size).toBe(0);
  expect(all.check(key)).toMatchObject({ reason: "unknown" });
  expect(await all.revoke("nobody", { purge: false }).then(String, codeOf)).toBe("not_found");
});

test("a key that is not on disk is none: a failed write changes nothing", async () => {
  using all = keys();
  await store[Symbol.asyncDispose]();
  expect(await all.create(WISH).then(String, codeOf)).toBe("shutting_down");
  expect(all.size).toBe(0);
  open();
});

test("ended keys make room, active ones do not", async () => {
  using all = keys({ maxKeys: 2 });
  const { info } = await all.create(WISH);
  await all.create(WISH);
  expect(await all.create(WISH).then(String, codeOf)).toBe("refused");
  await all.revoke(info.id, { purge: false });
  await all.create(WISH);
  expect(all.list().map(({ state }) => state)).toEqual(["active", "active"]);
});

test.each([
  ["no object", 7],
  ["a role of nobody", { role: "root" }],
  ["no hash", { hash: "" }],
  ["limits as text", { limits: { ...NO_LIMITS, concurrency: "2" } }],
  ["a limit missing", { limits: {} }],
  ["models as text", { models: "q*" }],
  ["an end as text", { expires_at: "never" }],
])("a damaged key (%s) lets nobody in, and is told", async (_, damage) => {
  const made = keys();
  const { key, info } = await made.create(WISH);
  made[Symbol.dispose]();
  const value = store.get(`keys/${info.id}`)?.value;
  const broken = typeof damage === "object" ? { ...(value as object), ...damage } : damage;
  await store.put(`keys/${info.id}`, broken, { durable: true });
  using all = keys();
  expect(all.check(key)).toMatchObject({ ok: false, reason: "unknown" });
  expect(lines.join("\n")).toContain("cannot be read");
  expect(lines.join("\n")).not.toContain(key.slice(-20));
});

test("what is written as a key is read back, and nothing else is a key", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), (text) => {
      const parsed = parseKey(text);
      if (parsed !== null) expect(formatKey(parsed)).toBe(text);
    }),
  );
  for (let i = 0; i < 100; i += 1) {
    const made = newKeyText();
    expect(parseKey(formatKey(made))).toEqual(made);
  }
});
