import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  backupOf,
  type Backup,
  readBackup,
  restoreBackup,
} from "../../../src/head/store/backup.ts";
import { openStore } from "../../../src/head/store/store.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { silentLog } from "../../../src/util/log.ts";
import { FAST, fakeWorker, keyOf, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { tempDir } from "../../helpers/temp.ts";

const durable = { durable: true };

async function ask(head: TestHead, route: string, body?: object): Promise<Record<string, any>> {
  const headers = { "content-type": "application/json", ...head.operator };
  const how = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(head.url + route, { headers, ...how });
  const text = await response.text();
  if (!response.ok) throw new Error(`${route}: ${response.status} ${text}`);
  return JSON.parse(text);
}

async function backup(head: TestHead): Promise<string> {
  const headers = { "content-type": "application/json", ...head.operator };
  const answer = await fetch(`${head.url}/api/v1/backup`, { method: "POST", headers, body: "{}" });
  expect(answer.status).toBe(200);
  return await answer.text();
}

function failure(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof LlmnodeError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "none";
}

test("a head that is restored has what the other had, and its workers come back to it", async () => {
  using dir = tempDir();
  const restored = path.join(dir.path, "restored");
  let text = "";
  let shown = "";
  let secret = "";
  let first: string | null = null;
  const hello = { workerId: "worker-that-stays", name: "gpu-1", run: "run-1" };
  {
    await using head = await startTestHead(FAST, { dataDir: path.join(dir.path, "first") });
    first = head.head.joinToken();
    await using worker = fakeWorker(head, { hello });
    shown = (await worker.next("welcome")).welcome.credential ?? "";
    expect(shown).not.toBe("");
    await ask(head, "/api/v1/aliases", { alias: "fast=m", force: false });
    await ask(head, "/api/v1/join-tokens", { note: "spare" });
    const made = await ask(head, "/api/v1/keys", { name: "team" });
    secret = String(made["key"]);
    await ask(head, "/api/v1/workers/drain", { workers: ["gpu-1"], force: true });
    text = await backup(head);
  }
  restoreBackup(readBackup(text, "it"), restored);
  const mode = (name: string) => statSync(path.join(restored, "head", name)).mode & 0o777;
  expect(["identity.pem", "join-token", "admin-token", "store.sqlite"].map(mode)).toEqual([
    0o600, 0o600, 0o600, 0o600,
  ]);
  await using head = await startTestHead(FAST, { dataDir: restored });
  expect(head.head.joinToken()).toBe(first);
  expect((await ask(head, "/api/v1/aliases"))["aliases"]).toMatchObject([{ name: "fast" }]);
  expect((await ask(head, "/api/v1/join-tokens"))["join_tokens"]).toHaveLength(2);
  expect((await ask(head, "/api/v1/keys"))["keys"]).toMatchObject([{ name: "team" }]);
  expect(secret).toStartWith("sk-ln-");
  const models = await fetch(`${head.url}/v1/models`, { headers: { "x-api-key": secret } });
  expect(models.status).toBe(200);
  // By the credential alone: no join token is shown.
  const keys = keyOf(first, shown).map((key) => ({ ...key, joinToken: null }));
  await using worker = fakeWorker(head, { hello: { ...hello, run: "run-2" }, keys });
  await worker.next("welcome");
  expect((await head.status()).workers).toMatchObject([{ name: "gpu-1", state: "drained" }]);
});

test("it is of one moment, however much is written meanwhile", async () => {
  using dir = tempDir();
  await using store = openStore({ dir: path.join(dir.path, "head"), log: silentLog });
  writeFileSync(path.join(dir.path, "head/identity.pem"), "key");
  const put = async (n: number) => {
    // Two that always belong together.
    await Promise.all([
      store.put(`a/${n % 500}`, { n, fill: "x".repeat(2000) }, durable),
      store.put(`b/${n % 500}`, { n }, durable),
    ]);
  };
  for (let n = 0; n < 500; n += 1) await put(n);
  const pieces = backupOf({ store, dataDir: dir.path, version: "1", now: 0 });
  const revision = store.revision;
  let text = "";
  let n = 500;
  for (const piece of pieces) {
    text += piece;
    await put((n += 1));
  }
  expect(n).toBeGreaterThan(502);
  const found = readBackup(text, "it");
  expect([found.revision, found.entries.length]).toEqual([revision, 1000]);
  const values = new Map(found.entries.map(({ key, value }) => [key, value as { n: number }]));
  for (let i = 0; i < 500; i += 1) {
    expect([values.get(`a/${i}`)?.n, values.get(`b/${i}`)?.n]).toEqual([i, i]);
  }
  restoreBackup(found, path.join(dir.path, "other"));
  await using other = openStore({ dir: path.join(dir.path, "other/head"), log: silentLog });
  expect([other.revision, other.list("a/").length]).toEqual([revision, 500]);
  expect(other.get("b/7")?.revision).toBe(found.entries.find(({ key }) => key === "b/7")?.revision);
});

test("a backup under load has every change that was confirmed before it was asked for", async () => {
  await using head = await startTestHead(FAST);
  let confirmed = 0;
  let isOver = false;
  const load = (async () => {
    for (let n = 0; !isOver; n += 1) {
      await ask(head, "/api/v1/aliases", { alias: `a${n}=m`, force: false });
      confirmed = n + 1;
    }
  })();
  for (let round = 0; round < 5; round += 1) {
    while (confirmed < (round + 1) * 5) await Bun.sleep(5);
    const before = confirmed;
    const { entries } = readBackup(await backup(head), "it");
    const names = new Set(entries.map(({ key }) => key));
    const missing = Array.from({ length: before }, (_, n) => `aliases/a${n}`).filter(
      (key) => !names.has(key),
    );
    expect(missing).toEqual([]);
  }
  isOver = true;
  await load;
});

test("only the admin token gets one, and it is written down who did", async () => {
  await using head = await startTestHead(FAST);
  const made = await ask(head, "/api/v1/keys", { name: "ops", role: "operator" });
  const post = (headers: Record<string, string>) =>
    fetch(`${head.url}/api/v1/backup`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: "{}",
    });
  expect((await post({})).status).toBe(401);
  const refused = await post({ "x-api-key": String(made["key"]) });
  expect([refused.status, await refused.text()]).toEqual([
    403,
    expect.stringContaining("it needs the admin token"),
  ]);
  expect((await post(head.operator)).status).toBe(200);
  const audit = JSON.stringify(await ask(head, "/api/v1/audit"));
  expect(audit.split("/api/v1/backup").length - 1).toBeGreaterThanOrEqual(2);
});

const WHOLE = [
  { schema: "llmnode.backup/1", created_at: "2026-01-01T00:00:00.000Z", revision: 1 },
  { file: "identity.pem", text: "key" },
  { key: "k", value: 1, revision: 1 },
];

function written(lines: readonly object[]): string {
  const body = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const sha256 = new Bun.CryptoHasher("sha256").update(body).digest("hex");
  return `${body}${JSON.stringify({ lines: lines.length, sha256 })}\n`;
}

test("what was cut, changed or never was a backup is refused", () => {
  const whole = written(WHOLE);
  const read = (text: string) => failure(() => readBackup(text, "x.backup"));
  expect(read(whole)).toBe("none");
  for (let at = 0; at < whole.length; at += 1) {
    expect([at, read(whole.slice(0, at))]).toEqual([
      at,
      expect.stringMatching(/^usage: x\.backup /),
    ]);
  }
  const cases: [string, string][] = [
    [whole.replace('"value":1', '"value":2'), "usage: x.backup is not whole, or was changed"],
    ["", "usage: x.backup is no backup of a head"],
    ['{"a":1}\n', "usage: x.backup is no backup of a head"],
    [written([{ schema: "llmnode.backup/2" }]), "usage: x.backup is of a newer llmnode"],
    [written(WHOLE.slice(0, 1)), "usage: x.backup has no key of a head"],
  ];
  for (const [text, message] of cases) expect(read(text)).toBe(message);
  // A file of any other name is never written.
  const odd = { file: "../../escaped", text: "x" };
  expect(readBackup(written([...WHOLE, odd]), "x").files).toHaveLength(1);
});

test("nothing is written over a head's state, and nothing half is left", () => {
  using dir = tempDir();
  const found: Backup = readBackup(written(WHOLE), "it");
  mkdirSync(path.join(dir.path, "taken/head"), { recursive: true });
  expect(failure(() => restoreBackup(found, path.join(dir.path, "taken")))).toStartWith(
    `refused: there is a head's state in ${dir.path}/taken/head already`,
  );
  writeFileSync(path.join(dir.path, "file"), "");
  expect(failure(() => restoreBackup(found, path.join(dir.path, "file")))).toStartWith(
    "data_dir_unusable: ",
  );
  const circular = { ...found, files: [...found.files, { file: "no/such/folder", text: "" }] };
  expect(failure(() => restoreBackup(circular, path.join(dir.path, "half")))).toStartWith(
    "data_dir_unusable: ",
  );
  expect(readdirSync(path.join(dir.path, "half"))).toEqual([]);
});
