import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { openStore } from "../../../src/head/store/store.ts";
import { silentLog } from "../../../src/util/log.ts";
import { spawnProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const SOURCE = path.resolve(import.meta.dir, "../../../src");
const open = (dir: string, writeBehindMs = 20) =>
  openStore({ dir: path.join(dir, "head"), log: silentLog, writeBehindMs });
const durable = { durable: true };
const later = { durable: false };

test("what was put is there after a restart, with its revision; what was deleted is not", async () => {
  using dir = tempDir();
  const store = open(dir.path);
  await store.put("a/1", { x: [1, null, "é"] }, durable);
  await store.put("a/2", "two", later);
  await store.put("b/1", 3, durable);
  await store.put("a/1", "again", later);
  await store.delete("b/1", durable);
  await store.delete("never", durable);
  expect(store.revision).toBe(5);
  expect(store.list("a/")).toEqual([
    { key: "a/1", value: "again", revision: 4 },
    { key: "a/2", value: "two", revision: 2 },
  ]);
  await store[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await expect(store.put("late", 1, durable)).rejects.toMatchObject({ code: "shutting_down" });
  await using next = open(dir.path);
  expect([next.revision, next.list("a/"), next.get("b/1")]).toEqual([
    5,
    [
      { key: "a/1", value: "again", revision: 4 },
      { key: "a/2", value: "two", revision: 2 },
    ],
    null,
  ]);
});

test("a watcher sees the changes below its prefix, in order, until it ends", async () => {
  using dir = tempDir();
  await using store = open(dir.path);
  const seen: unknown[] = [];
  const stop = store.watch("a/", ({ key, value, revision }) => seen.push([key, value, revision]));
  await store.put("a/1", 1, later);
  await store.put("b/1", 1, later);
  await store.delete("a/1", durable);
  stop();
  await store.put("a/2", 1, later);
  expect(seen).toEqual([
    ["a/1", 1, 1],
    ["a/1", undefined, 3],
  ]);
});

test("what a caller does to a value afterwards does not reach the store", async () => {
  using dir = tempDir();
  await using store = open(dir.path);
  const value = { list: [1] };
  await store.put("k", value, later);
  value.list.push(2);
  expect(store.get("k")?.value).toEqual({ list: [1] });
});

test("it is for the owner's eyes only", async () => {
  using dir = tempDir();
  mkdirSync(path.join(dir.path, "head"), { mode: 0o755 });
  await using store = open(dir.path);
  await store.put("k", 1, durable);
  const mode = (name: string) => statSync(path.join(dir.path, "head", name)).mode & 0o777;
  expect(["", "store.sqlite", "store.sqlite-wal", "owner"].map(mode)).toEqual([
    0o700, 0o600, 0o600, 0o600,
  ]);
});

/** A process that writes until it is killed, and says what is durable. */
function writer(dir: string, body: string) {
  const script = path.join(dir, "writer.ts");
  writeFileSync(
    script,
    `import { openStore } from ${JSON.stringify(`${SOURCE}/head/store/store.ts`)};
     import { silentLog } from ${JSON.stringify(`${SOURCE}/util/log.ts`)};
     const store = openStore({ dir: ${JSON.stringify(path.join(dir, "head"))}, log: silentLog, writeBehindMs: 20 });
     ${body}`,
  );
  return spawnProcess([process.execPath, script]);
}

test("kill -9 in the middle of writes loses nothing that was said to be kept", async () => {
  using dir = tempDir();
  await using process = writer(
    dir.path,
    `for (let i = 1; ; i += 1) {
       await store.put("behind/" + (i % 50), { i, fill: "x".repeat(2000) }, { durable: false });
       await store.put("key/" + i, { i }, { durable: true });
       console.log("kept " + i);
       if (i % 10 === 0) await Bun.sleep(0);
     }`,
  );
  await process.waitForLine(/^kept 60$/);
  process.kill("SIGKILL");
  await process.finished;
  const said = [...process.stdout().matchAll(/^kept (\d+)\n/gm)].map(([, i]) => Number(i));
  await using store = open(dir.path);
  expect(said.filter((i) => store.get(`key/${i}`) === null)).toEqual([]);
  // A durable change takes along what waited before it.
  const last = said.at(-1) ?? 0;
  const behind = store.list("behind/").map(({ value }) => (value as { i: number }).i);
  expect(Math.max(...behind)).toBeGreaterThanOrEqual(last);
  expect(store.revision).toBeGreaterThanOrEqual(2 * last);
});

test("what is written behind is on disk soon, without anybody asking", async () => {
  using dir = tempDir();
  await using process = writer(
    dir.path,
    `await store.put("k", "soon", { durable: false });
     console.log("put");
     setInterval(() => {}, 1000);`,
  );
  await process.waitForLine("put");
  await waitFor(() =>
    readFileSync(path.join(dir.path, "head", "store.sqlite-wal")).includes('"soon"'),
  );
  process.kill("SIGKILL");
  await process.finished;
  await using store = open(dir.path);
  expect(store.get("k")?.value).toBe("soon");
});

test("two heads cannot share it, and the second is told who has it", async () => {
  using dir = tempDir();
  await using process = writer(
    dir.path,
    `console.log("open"); setInterval(() => store.revision, 1000);`,
  );
  await process.waitForLine("open");
  expect(() => open(dir.path)).toThrow(`another head uses it (pid ${process.pid})`);
  process.kill("SIGKILL");
  await process.finished;
  await using mine = open(dir.path);
  expect(() => open(dir.path)).toThrow("another head uses it");
  await mine.put("k", 1, durable);
});

test("a damaged store is refused with words, and left as it is", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, "head", "store.sqlite");
  const store = open(dir.path);
  for (let i = 0; i < 50; i += 1) await store.put(`k${i}`, "x".repeat(500), later);
  await store[Symbol.asyncDispose]();
  const whole = readFileSync(file);
  const damage: (() => void)[] = [
    () => writeFileSync(file, "not a database, but long enough to be taken for one".repeat(50)),
    () => truncateSync(file, Math.floor(whole.length / 2)),
    () => writeFileSync(file, Buffer.concat([whole.subarray(0, 4096), Buffer.alloc(8192, 0xff)])),
  ];
  for (const break_ of damage) {
    writeFileSync(file, whole);
    break_();
    const broken = readFileSync(file);
    expect(() => open(dir.path)).toThrow(/its store is damaged/);
    expect(readFileSync(file).equals(broken)).toBe(true);
  }
  writeFileSync(file, whole);
  await using again = open(dir.path);
  expect(again.list("").length).toBe(50);
});

test("a store of a newer llmnode and a folder that cannot be are refused", async () => {
  using dir = tempDir();
  await open(dir.path)[Symbol.asyncDispose]();
  using database = new Database(path.join(dir.path, "head", "store.sqlite"));
  database.run("PRAGMA user_version=99");
  database.close();
  expect(() => open(dir.path)).toThrow("it was written by a newer llmnode");
  const file = path.join(dir.path, "file");
  writeFileSync(file, "");
  expect(() => open(file)).toThrow(`cannot keep the head's state in ${file}/head`);
  mkdirSync(path.join(dir.path, "other/head/store.sqlite"), { recursive: true });
  expect(() => open(path.join(dir.path, "other"))).toThrow("cannot keep the head's state in");
});
