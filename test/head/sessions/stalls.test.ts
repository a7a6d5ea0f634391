import { expect, test } from "bun:test";
import path from "node:path";
import type { HeadSettings } from "../../../src/head/options.ts";
import type { WorkerOptions, WorkerSettings } from "../../../src/worker/options.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { connect, rawPost } from "../../conformance/socket.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";
import { isRunning, spawnProcess } from "../../helpers/process.ts";
import { waitFor } from "../../helpers/wait.ts";
import { SELF, sim, startTestWorker, tempDir, type TestWorker } from "../../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const ask = (more: object = {}) => ({
  model: "m",
  max_tokens: 4,
  stream: true,
  messages: [{ role: "user", content: "hi" }],
  ...more,
});

const HEAD: Partial<HeadSettings> = {
  ...FAST,
  cluster: {
    ...FAST.cluster,
    // Well above what a loaded machine takes for a token, far below the limits of the tests.
    stallAfterMs: 1000,
    examineAheadMs: 500,
    examineRepeatMs: 200,
    suspectForgetMs: 60_000,
    loadMaxAgeMs: 800,
  },
};
const EXAMINE: WorkerSettings["examine"] = {
  inspectMs: 50,
  idleMs: 1e9,
  generationTimeoutMs: 300,
  generationEveryMs: 300,
  failingMs: 900,
  lapseMs: 2000,
};

function startWorker(
  head: TestHead,
  dir: string,
  { settings, ...more }: Partial<WorkerOptions> = {},
): Promise<TestWorker> {
  return startTestWorker(head, dir, {
    ...more,
    settings: {
      examine: EXAMINE,
      supervisor: {
        startProbeMs: 50,
        backoffFirstMs: 50,
        logPollMs: 20,
        modelsMs: 100,
        healthProbeMs: 100,
        load: { everyMs: 50, timeoutMs: 200 },
      },
      ...settings,
    },
  });
}

async function engineOf(head: TestHead, name: string) {
  const row = (await head.status()).workers.find((worker) => worker.name === name);
  return row?.engines[0] ?? null;
}

/** Which worker answered, once its whole answer is here. */
async function answeredBy(response: Response): Promise<string | null> {
  const text = await response.text();
  expect([response.status, text.includes('"error"')]).toEqual([200, false]);
  return response.headers.get("x-llmnode-worker");
}

const stop = (pid: number) => void process.kill(pid, "SIGSTOP");
const go = (pid: number) => {
  if (isRunning(pid)) process.kill(pid, "SIGCONT");
};

test.each(["direct", "lane"] as const)(
  "a stopped engine: requests that wait are answered elsewhere, and it is started again (%s)",
  async (data) => {
    using dir = tempDir();
    using other = tempDir();
    await using head = await startTestHead(HEAD);
    await using a = await startWorker(head, dir.path, { name: "a", data });
    await using b = await startWorker(head, other.path, { name: "b", data });
    await head.ready("m", 2);
    const pid = (await engineOf(head, a.worker.name))?.pid ?? 0;
    stop(pid);
    const asked = [true, true, true, true, false, false, false, false].map((stream) =>
      head.post(CHAT, ask({ stream })),
    );
    const by = await Promise.all(asked.map(async (response) => answeredBy(await response)));
    expect(by).toHaveLength(8);
    const again = await waitFor(async () => {
      const engine = await engineOf(head, "a");
      return engine?.state === "ready" && engine.restarts === 1 ? engine : null;
    });
    expect(again.pid).not.toBe(pid);
    expect(isRunning(pid)).toBe(false);
    expect(a.log.join("\n")).toContain(`its process ${pid} is stopped`);
    const metrics = await (await fetch(`${head.url}/metrics`)).text();
    expect(metrics).toContain('llmnode_engine_restarts_total{worker="a",reason="stalled"} 1');
    expect(b.worker.name).toBe("b");
  },
);

test("a stream that had begun ends when its stopped engine is given up", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  const engine = { argv: sim("--model", "m", "--itl", "50ms") };
  await using worker = await startWorker(head, dir.path, { engine });
  await head.ready("m");
  const response = await head.post(CHAT, ask({ max_tokens: 1000 }));
  const reader = response.body?.getReader();
  await reader?.read();
  stop((await engineOf(head, worker.worker.name))?.pid ?? 0);
  let text = "";
  for (;;) {
    const read = await reader?.read();
    if (!read || read.done) break;
    text += new TextDecoder().decode(read.value);
  }
  expect(text).toContain('"error"');
  expect(text).not.toContain("[DONE]");
  await head.ready("m");
  expect(await answeredBy(await head.post(CHAT, ask()))).toBe(worker.worker.name);
});

test("an engine that answers its health route and gives no token is started again", async () => {
  using dir = tempDir();
  using other = tempDir();
  await using head = await startTestHead(HEAD);
  const argv = sim("--model", "m", "--fault", "hang-after=0", "--fault", "health-lies");
  await using a = await startWorker(head, dir.path, { name: "a", engine: { argv } });
  await head.ready("m", 1);
  await using b = await startWorker(head, other.path, { name: "b" });
  await head.ready("m", 2);
  const asked = Array.from({ length: 4 }, () => head.post(CHAT, ask()));
  const by = await Promise.all(asked.map(async (response) => answeredBy(await response)));
  expect(new Set(by)).toEqual(new Set(["b"]));
  await waitFor(async () => ((await engineOf(head, "a"))?.restarts ?? 0) > 0);
  expect(a.log.join("\n")).toContain("requests for one token failed in a row");
  expect(a.log.join("\n")).toContain("it stopped producing output");
  expect(b.log.join("\n")).not.toContain("stalled");
});

test("an engine that others run stays as it is; a sign of life ends the suspicion", async () => {
  using dir = tempDir();
  using other = tempDir();
  await using head = await startTestHead(HEAD);
  await using engine = spawnProcess([...SELF, ...sim("--model", "m").slice(1)]);
  const [, url = ""] = await engine.waitForLine(/(http:\/\/127\.0\.0\.1:\d+)/);
  await using a = await startWorker(head, dir.path, { name: "a", engine: { attach: url } });
  await using b = await startWorker(head, other.path, { name: "b" });
  await head.ready("m", 2);
  stop(engine.pid);
  try {
    const asked = Array.from({ length: 6 }, () => head.post(CHAT, ask()));
    const by = await Promise.all(asked.map(async (response) => answeredBy(await response)));
    expect(new Set(by)).toEqual(new Set(["b"]));
    // Longer than an engine of its own would have lived.
    await waitFor(() => a.log.filter((line) => line.includes("asked for one token")).length > 5);
    expect(isRunning(engine.pid)).toBe(true);
    expect((await engineOf(head, "a"))?.replicas[0]?.state).toBe("excluded");
  } finally {
    go(engine.pid);
  }
  await waitFor(async () => (await engineOf(head, "a"))?.state === "ready");
  expect((await engineOf(head, "a"))?.restarts).toBe(0);
  expect(b.log.join("\n")).not.toContain("stalled");
});

test("--stall-restart off: suspect, not started again, and well once it goes on", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  await using worker = await startWorker(head, dir.path, { stallRestart: "off" });
  await head.ready("m");
  const { name } = worker.worker;
  const pid = (await engineOf(head, name))?.pid ?? 0;
  stop(pid);
  let answer: Promise<Response>;
  try {
    answer = head.post(CHAT, ask());
    await waitFor(() => worker.log.some((line) => line.includes("is not started again")));
    expect(head.lines.some((line) => line.includes("engine is suspect"))).toBe(true);
  } finally {
    go(pid);
  }
  // There was nowhere else to go: it was answered where it was.
  expect(await answeredBy(await answer)).toBe(name);
  await waitFor(async () => (await engineOf(head, name))?.state === "ready");
  expect(await engineOf(head, name)).toMatchObject({ pid, restarts: 0 });
});

test("no stall: an answer in one piece whose tokens flow", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  const engine = { argv: sim("--model", "m", "--itl", "100ms") };
  await using worker = await startWorker(head, dir.path, { engine });
  await head.ready("m");
  const answer = await head.post(CHAT, ask({ stream: false, max_tokens: 30, ignore_eos: true }));
  expect(await answeredBy(answer)).toBe(worker.worker.name);
  expect(head.lines.filter((line) => line.includes("suspect"))).toEqual([]);
});

test("no stall: a client that takes nothing for a while", async () => {
  await using head = await startTestHead(HEAD);
  // Far more than the sockets on the way can hold.
  const event = `data: ${JSON.stringify({ text: "x".repeat(64 * 1024) })}\n\n`;
  await using engine = startEngine(() =>
    eventStream([...Array.from({ length: 600 }, () => event), "data: [DONE]\n\n"]),
  );
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  using client = await connect(Number(new URL(head.url).port));
  client.write(rawPost(CHAT, JSON.stringify(ask())));
  await client.until((text) => text.includes("xxx"), "the first event");
  client.pause();
  await Bun.sleep(2500);
  client.resume();
  await client.until((text) => text.endsWith("data: [DONE]\n\n\r\n0\r\n\r\n"), "the end");
  expect(head.lines.filter((line) => line.includes("suspect"))).toEqual([]);
  expect(worker.received.some(({ message }) => message === "examine")).toBe(false);
});

test("no stall: a long prompt", async () => {
  using dir = tempDir();
  // A token for its worker would show that it lives: here only its prompt speaks for it.
  const cluster = { ...HEAD.cluster, examineAheadMs: 0 };
  await using head = await startTestHead({ ...HEAD, cluster });
  // Like an engine that does not tell of tokens while it computes them.
  const flags = ["--like", "tgi", "--prefill-rate", "10000", "--max-model-len", "100000"];
  const argv = sim("--model", "m", ...flags);
  await using worker = await startWorker(head, dir.path, { engine: { argv } });
  await head.ready("m");
  const messages = [{ role: "user", content: "word ".repeat(25_000) }];
  const answer = await head.post(CHAT, ask({ messages }));
  expect(await answeredBy(answer)).toBe(worker.worker.name);
  expect(head.lines.filter((line) => line.includes("suspect"))).toEqual([]);
});

test("no stall: a model that is loaded for the first request", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  const argv = [...SELF, "sim", "--like", "ollama", "--port", "0", "--model", "m"];
  await using engine = spawnProcess([...argv, "--load-time", "3s"]);
  const [, at = ""] = await engine.waitForLine(/Listening on (\S+)/);
  await using worker = await startWorker(head, dir.path, { engine: { attach: `http://${at}` } });
  await head.ready("m:latest");
  const answer = await head.post(CHAT, ask());
  expect(await answeredBy(answer)).toBe(worker.worker.name);
  expect(head.lines.filter((line) => line.includes("suspect"))).toEqual([]);
});

test("no death: an engine that compiles, whatever else it lets lie", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  const program = path.resolve(import.meta.dir, "../../engine/fixtures/compiling.ts");
  await using worker = await startWorker(head, dir.path, {
    engine: { argv: [process.execPath, program, "--port", "0"] },
    settings: { examine: { ...EXAMINE, idleMs: 400, failingMs: 1e9 } },
  });
  await head.ready("m");
  const answer = await head.post(CHAT, ask());
  expect(await answeredBy(answer)).toBe(worker.worker.name);
  expect(head.lines.some((line) => line.includes("engine is suspect"))).toBe(true);
  await waitFor(async () => (await engineOf(head, worker.worker.name))?.state === "ready");
  expect((await engineOf(head, worker.worker.name))?.restarts).toBe(0);
});

test("an engine that does nothing at all is started again", async () => {
  using dir = tempDir();
  await using head = await startTestHead(HEAD);
  const program = path.resolve(import.meta.dir, "../../engine/fixtures/compiling.ts");
  await using worker = await startWorker(head, dir.path, {
    engine: { argv: [process.execPath, program, "--port", "0", "--idle"] },
    // A runtime's own threads are not quite idle.
    settings: { examine: { ...EXAMINE, idleMs: 400, idleShare: 0.3, failingMs: 1e9 } },
  });
  await head.ready("m");
  const lost = head.post(CHAT, ask()).then((response) => response.text());
  await waitFor(async () => (await engineOf(head, worker.worker.name))?.restarts === 1);
  expect(worker.log.join("\n")).toContain("its processes have done nothing for");
  await lost;
});

test("an old worker, or one that cannot look: waiting requests move all the same", async () => {
  await using head = await startTestHead(HEAD);
  await using hung = startEngine(() => new Promise<Response>(() => undefined));
  await using well = startEngine(() => chatAnswer("well"));
  await using a = fakeWorker(head, { port: hung.port, models: ["m"] });
  await head.ready("m", 1);
  const asked = head.post(CHAT, ask());
  await waitFor(() => hung.seen.length === 1);
  await using b = fakeWorker(head, { port: well.port, models: ["m"] });
  expect((await asked).status).toBe(200);
  expect((await (await asked).text()).includes("well")).toBe(true);
  // It is told what it may not understand, and again as long as it holds.
  await waitFor(() => a.received.filter(({ message }) => message === "examine").length > 2);
  expect(await a.next("examine")).toEqual({
    message: "examine",
    examine: { engine: "1", look: false, ask: true },
  });
  expect((await head.status()).workers.find(({ id }) => id === a.id)?.engines[0]?.state).toBe(
    "suspect",
  );
  expect(b.received.some(({ message }) => message === "examine")).toBe(false);
});
