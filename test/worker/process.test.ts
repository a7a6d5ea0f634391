import { expect, test } from "bun:test";
import { FAST, startTestHead, type TestHead } from "../helpers/cluster.ts";
import { isRunning, spawnProcess, type TestProcess } from "../helpers/process.ts";
import { tempDir } from "../helpers/temp.ts";
import { waitFor } from "../helpers/wait.ts";
import { SELF } from "../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({
  model: "m",
  max_tokens: 4,
  messages: [{ role: "user", content: "hi" }],
  ...extra,
});
// So long that only a worker that proves what it follows comes in at once.
const PATIENT = { ...FAST, cluster: { ...FAST.cluster, replaceRunAfterMs: 60_000 } };
const SIM = ["llmnode", "sim", "--model", "m", "--port", "0", "--itl", "20ms"];

interface JoinMore {
  flags?: string[];
  engine?: string[];
}

function join(head: TestHead, dataDir: string, more: JoinMore = {}): TestProcess {
  const { host, port } = head.head.sessionAddress;
  const token = head.head.joinToken() ?? "";
  const flags = ["--insecure", "--data-dir", dataDir, ...(more.flags ?? [])];
  return spawnProcess(
    [...SELF, "join", `${host}:${port}`, ...flags, "--", ...(more.engine ?? SIM)],
    { env: { LLMNODE_TOKEN: token } },
  );
}

const engineOf = async (head: TestHead) => (await head.status()).workers[0]?.engines[0];

async function pidOf(head: TestHead): Promise<number> {
  return waitFor(async () => (await engineOf(head))?.pid);
}

test("a worker that is killed loses nothing but itself: the next one has its engine", async () => {
  using dir = tempDir();
  await using head = await startTestHead(PATIENT);
  await using first = join(head, dir.path);
  await head.ready("m");
  const pid = await pidOf(head);
  const stream = (await head.post(CHAT, ask({ stream: true, max_tokens: 100 }))).text();
  first.kill("SIGKILL");
  await first.finished;
  await using second = join(head, dir.path);
  await waitFor(async () => (await engineOf(head))?.adopted === true);
  expect(await pidOf(head)).toBe(pid);
  expect((await head.post(CHAT, ask())).status).toBe(200);
  // It went to the engine itself, and so it goes on.
  expect(await stream).toEndWith("data: [DONE]\n\n");
  second.kill("SIGTERM");
  expect((await second.finished).code).toBe(0);
  expect(isRunning(pid)).toBe(false);
});

test("SIGUSR2 ends the worker alone", async () => {
  using dir = tempDir();
  await using head = await startTestHead(PATIENT);
  await using first = join(head, dir.path);
  await head.ready("m");
  const pid = await pidOf(head);
  first.kill("SIGUSR2");
  expect((await first.finished).code).toBe(0);
  expect(isRunning(pid)).toBe(true);
  await using second = join(head, dir.path);
  await waitFor(async () => (await engineOf(head))?.adopted === true);
  second.kill("SIGINT");
  expect((await second.finished).code).toBe(0);
  expect(isRunning(pid)).toBe(false);
});

test("--adopt-running takes the engine from the worker that runs", async () => {
  using dir = tempDir();
  await using head = await startTestHead(PATIENT);
  await using first = join(head, dir.path);
  await head.ready("m");
  const pid = await pidOf(head);
  await using second = join(head, dir.path, { flags: ["--adopt-running"] });
  expect((await first.finished).code).toBe(0);
  await waitFor(async () => (await engineOf(head))?.adopted === true);
  expect(await pidOf(head)).toBe(pid);
  expect((await head.status()).workers.length).toBe(1);
  expect((await head.post(CHAT, ask())).status).toBe(200);
  second.kill("SIGTERM");
  await second.finished;
  expect(isRunning(pid)).toBe(false);
});

test("--no-adopt ends what a killed worker left and starts it anew", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  await using first = join(head, dir.path);
  await head.ready("m");
  const pid = await pidOf(head);
  first.kill("SIGKILL");
  await first.finished;
  await using second = join(head, dir.path, { flags: ["--no-adopt"] });
  await second.waitForLine("ending leftovers of an earlier run of this worker");
  await second.waitForLine("engine ready");
  expect(isRunning(pid)).toBe(false);
});

test("--restart says when join ends with its engine, in a line and an exit code", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const ends = (code: number) => ["sh", "-c", `echo 'ValueError: no more'; exit ${code}`];
  const run = async (restart: string, code: number) => {
    await using worker = join(head, dir.path, {
      flags: ["--restart", restart],
      engine: ends(code),
    });
    const finished = await worker.finished;
    return { code: finished.code, text: finished.stdout + finished.stderr };
  };
  expect((await run("on-failure", 0)).code).toBe(0);
  const failed = await run("no", 3);
  expect(failed.code).toBe(125);
  expect(failed.text).toContain("the engine ended: exited with code 3: ValueError: no more");
  expect((await run("no", 0)).code).toBe(125);
});
