import { expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { FAST, startTestHead, type TestHead } from "../helpers/cluster.ts";
import { processesWithEnvironment } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { sim, startTestWorker, tempDir } from "../helpers/worker.ts";

const TLS = { tls: true };
const secure = { insecure: false };

async function post(head: TestHead, where: string, body: object): Promise<{ token: string }> {
  const response = await head.post(`/api/v1/${where}`, body);
  return (await response.json()) as { token: string };
}

/** The text of every file below a folder. */
function filesBelow(dir: string): [string, string][] {
  const names = readdirSync(dir, { recursive: true, withFileTypes: true });
  return names
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const file = path.join(entry.parentPath, entry.name);
      return [entry.name, readFileSync(file, "latin1")];
    });
}

test("beside its head a worker needs no join token from anybody", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST, { ...TLS, dataDir: dir.path });
  await using worker = await startTestWorker(head, dir.path, { ...secure, joinToken: null });
  await head.ready("m");
  expect(worker.log.join("")).toContain("msg=joined");
});

test("a worker that starts before its head waits for the head's join token", async () => {
  using dir = tempDir();
  const gone = await startTestHead(FAST, { ...TLS, dataDir: dir.path });
  const session = gone.head.sessionAddress.port;
  await gone[Symbol.asyncDispose]();
  rmSync(path.join(dir.path, "head"), { recursive: true });
  await using worker = await startTestWorker(gone, dir.path, { ...secure, joinToken: null });
  await waitFor(() => worker.log.some((line) => line.includes("there is no join token yet")));
  await using head = await startTestHead(FAST, { ...TLS, session, dataDir: dir.path });
  await head.ready("m");
});

test("after its first join a worker comes back by its own credential, whatever the tokens do", async () => {
  using headDir = tempDir();
  using dir = tempDir();
  let head = await startTestHead(FAST, { ...TLS, dataDir: headDir.path });
  const session = head.head.sessionAddress.port;
  const once = (await post(head, "join-tokens", { uses: 1 })).token;
  const first = await startTestWorker(head, dir.path, { ...secure, joinToken: once });
  await head.ready("m");
  await first.worker.stop();
  await post(head, "join-tokens/rotate", {});
  // Without one, with one that is used up, and with the head anew.
  for (const joinToken of [null, once, null]) {
    await using again = await startTestWorker(head, dir.path, { ...secure, joinToken });
    await head.ready("m");
    expect(again.log.join("")).not.toContain("refuses");
    await again.worker.stop();
    await head[Symbol.asyncDispose]();
    head = await startTestHead(FAST, { ...TLS, session, dataDir: headDir.path });
  }
  await head[Symbol.asyncDispose]();
  const secret = once.slice(0, 48);
  expect(filesBelow(dir.path).filter(([, text]) => text.includes(secret))).toEqual([]);
});

test("a refused join ends with the reason and the fix, and its engine with it", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST, TLS);
  const { token } = await post(head, "join-tokens", { uses: 1 });
  const used = await startTestWorker(head, dir.path, { ...secure, joinToken: token });
  await head.ready("m");
  using other = tempDir();
  await using worker = await startTestWorker(head, other.path, { ...secure, joinToken: token });
  const error = await worker.worker.ended;
  expect([error?.code, error?.message, error?.hints]).toEqual([
    "join_failed",
    "the head refuses this worker: the join token was for 1 worker, which joined already",
    ["get a new one on the head: llmnode join-token show"],
  ]);
  await used[Symbol.asyncDispose]();
});

test("a join token of another head ends join before anything is told", async () => {
  using dir = tempDir();
  await using mine = await startTestHead(FAST, TLS);
  await using other = await startTestHead(FAST, TLS);
  const joinToken = other.head.joinToken();
  await using worker = await startTestWorker(mine, dir.path, { ...secure, joinToken });
  const error = await worker.worker.ended;
  expect(error?.message).toContain("has another key than this worker may trust");
  expect(error?.hints?.[0]).toContain("llmnode join-token show");
  expect(mine.lines.some((line) => line.includes("refused"))).toBe(false);
});

test("once in, a worker whose head got another key keeps its engine and says why it is out", async () => {
  using headDir = tempDir();
  using dir = tempDir();
  const first = await startTestHead(FAST, { ...TLS, dataDir: headDir.path });
  const session = first.head.sessionAddress.port;
  await using worker = await startTestWorker(first, dir.path, secure);
  await first.ready("m");
  const id = (await first.status()).workers[0]?.id;
  const engines = processesWithEnvironment(`LLMNODE_ENGINE_ID=${id}-1`);
  expect(engines.length).toBe(1);
  await first[Symbol.asyncDispose]();
  rmSync(path.join(headDir.path, "head"), { recursive: true });
  await using _second = await startTestHead(FAST, { ...TLS, session, dataDir: headDir.path });
  await waitFor(() => worker.log.some((line) => line.includes("has another key")));
  expect(processesWithEnvironment(`LLMNODE_ENGINE_ID=${id}-1`)).toEqual(engines);
});

test("models that its token does not allow are named on the worker; none at all ends it", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST, TLS);
  const { token } = await post(head, "join-tokens", { models: "q*" });
  const options = { ...secure, joinToken: token };
  const engine = { argv: sim("--model", "q1", "--model", "other") };
  const worker = await startTestWorker(head, dir.path, { ...options, engine });
  await head.ready("q1");
  await waitFor(() => worker.log.some((line) => line.includes("only models like q*, not other")));
  await worker[Symbol.asyncDispose]();
  await using none = await startTestWorker(head, dir.path, options);
  const error = await none.worker.ended;
  expect(error?.message).toBe(
    "the head refuses this worker: its join token allows only models like q*, not m",
  );
});

test("a worker that was sent away is told, keeps its engine, and is not back by itself", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST, TLS);
  await using worker = await startTestWorker(head, dir.path, {
    ...secure,
    settings: { link: { reconnectFirstMs: 20, reconnectMaxMs: 50, refusedRetryMs: 50 } },
  });
  await head.ready("m");
  const id = (await head.status()).workers[0]?.id ?? "";
  await post(head, "workers/forget", { worker: worker.worker.name });
  const refused = () => worker.log.filter((line) => line.includes("has removed this worker"));
  await waitFor(() => refused().length > 2);
  expect((await head.status()).workers).toEqual([]);
  expect(processesWithEnvironment(`LLMNODE_ENGINE_ID=${id}-1`).length).toBe(1);
  await worker.worker.stop();
  await using _again = await startTestWorker(head, dir.path, secure);
  await head.ready("m");
});

test("with --insecure on both sides join tokens count all the same", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const wrong = `${"0".repeat(48)}.${"A".repeat(43)}`;
  await using worker = await startTestWorker(head, dir.path, { joinToken: wrong });
  const error = await worker.worker.ended;
  expect(error?.message).toContain("this head does not know the join token");
});
