import { beforeAll, expect, test } from "bun:test";
import OpenAI from "openai";
import { binaryPath } from "../helpers/binary.ts";
import { type RealHead, startRealHead } from "../helpers/real-head.ts";
import {
  isRunning,
  processesWithEnvironment,
  spawnProcess,
  type TestProcess,
} from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { type TempDir, tempDir } from "../helpers/worker.ts";

let binary = "";
beforeAll(async () => {
  binary = await binaryPath();
}, 180_000);

const startHead = (home: string, at?: RealHead) =>
  startRealHead({ command: [binary], home, cwd: home, ...(at && { at }) });

function join(home: string, head: RealHead, ...engine: string[]): TestProcess {
  return spawnProcess(
    [binary, "join", head.sessions, "--", "llmnode", "sim", "--port", "0", ...engine],
    {
      cwd: home,
      env: { HOME: home },
    },
  );
}

interface Status {
  workers: { id: string; state: string }[];
  models: { name: string; ready: number; in_flight: number }[];
}

async function status(head: RealHead): Promise<Status> {
  return (await (await fetch(`${head.url}/api/v1/status`)).json()) as Status;
}

async function ready(head: RealHead, model: string, count: number): Promise<Status> {
  return await waitFor(
    async () => {
      const now = await status(head).catch(() => null);
      return now?.models.find(({ name }) => name === model)?.ready === count ? now : null;
    },
    { what: `${count} replicas of ${model}`, timeoutMs: 20_000 },
  );
}

const chat = (extra: object = {}) =>
  JSON.stringify({
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    stream: true,
    ...extra,
  });

async function ask(head: RealHead, extra: object = {}): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return await fetch(`${head.url}/v1/chat/completions`, {
    method: "POST",
    body: chat(extra),
    headers,
  });
}

test("the official SDK completes chat, streams, completions, embeddings and model lists", async () => {
  using home: TempDir = tempDir();
  await using head = await startHead(home.path);
  await using _a = join(home.path, head, "--model", "m", "--model", "org/name");
  await using _b = join(home.path, head, "--model", "m");
  await ready(head, "m", 2);
  const client = new OpenAI({ baseURL: `${head.url}/v1`, apiKey: "any", maxRetries: 0 });
  const messages = [{ role: "user" as const, content: "hello" }];

  const whole = await client.chat.completions.create({ model: "m", messages, max_tokens: 16 });
  const text = whole.choices[0]?.message.content ?? "";
  expect(whole.usage).toMatchObject({ completion_tokens: 16 });
  expect(text).toContain("simulated");

  let streamed = "";
  let usage: unknown = null;
  const stream = await client.chat.completions.create({
    model: "m",
    messages,
    max_tokens: 16,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of stream) {
    streamed += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  expect(streamed).toBe(text);
  expect(usage).toMatchObject({ prompt_tokens: whole.usage?.prompt_tokens, completion_tokens: 16 });

  const completion = await client.completions.create({
    model: "org/name",
    prompt: "a",
    max_tokens: 4,
  });
  expect(completion.usage?.completion_tokens).toBe(4);
  const embedding = await client.embeddings.create({ model: "m", input: ["a", "b"] });
  expect(embedding.data.map(({ embedding: vector }) => vector.length > 0)).toEqual([true, true]);
  const models = await client.models.list();
  expect(models.data.map(({ id }) => id)).toEqual(["m", "org/name"]);
  expect((await client.models.retrieve("org/name")).id).toBe("org/name");

  // The head has just started: the model may be on its way, and is waited for.
  const missing = client.chat.completions.create({ model: "none", messages }, { timeout: 500 });
  const error: unknown = await missing.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OpenAI.APIConnectionTimeoutError);
});

test("kill -9 of one of two engines under load loses no request that had no engine byte", async () => {
  using home = tempDir();
  await using head = await startHead(home.path);
  const engine = ["--model", "m", "--ttft", "150ms", "--itl", "10ms"];
  await using _a = join(home.path, head, ...engine);
  await using _b = join(home.path, head, ...engine);
  const { workers } = await ready(head, "m", 2);
  const victim = processesWithEnvironment(`LLMNODE_ENGINE_ID=${workers[0]?.id}-1`);
  expect(victim.length).toBe(1);

  let started = 0;
  const results: { status: number; whole: boolean; started: boolean; attempts: string | null }[] =
    [];
  const one = async () => {
    started += 1;
    const response = await ask(head, { max_tokens: 12 });
    const text = await response.text();
    results.push({
      status: response.status,
      whole: text.endsWith("data: [DONE]\n\n"),
      started: text.includes('"content":"'),
      attempts: response.headers.get("x-llmnode-attempts"),
    });
  };
  const load = Array.from({ length: 240 }, (_, i) => Bun.sleep(i * 5).then(one));
  await waitFor(() => started >= 100);
  for (const pid of victim) process.kill(pid, "SIGKILL");
  await Promise.all(load);

  expect(results.length).toBe(240);
  const lost = results.filter(
    ({ status, whole, started }) => status !== 200 || (!whole && !started),
  );
  expect(lost).toEqual([]);
  expect(results.some(({ attempts }) => attempts === "2")).toBe(true);
  await ready(head, "m", 2);
});

test("a head restart under load leaves engines untouched and routing is back with the first reconnect", async () => {
  using home = tempDir();
  const first = await startHead(home.path);
  await using worker = join(home.path, first, "--model", "m", "--itl", "5ms");
  const { workers } = await ready(first, "m", 1);
  const marked = `LLMNODE_ENGINE_ID=${workers[0]?.id}-1`;
  const pids = processesWithEnvironment(marked);
  const load = Array.from({ length: 20 }, () =>
    ask(first, { max_tokens: 2000 })
      .then((r) => r.text())
      .catch(() => null),
  );
  await waitFor(async () => ((await status(first)).models[0]?.in_flight ?? 0) >= 10);
  first.process.kill("SIGKILL");
  await first.process.finished;
  await Promise.all(load);
  await using second = await startHead(home.path, first);
  const early = await ask(second);
  // Until the worker is back its model is on its way, not unknown.
  expect([200, 503]).toContain(early.status);
  await ready(second, "m", 1);
  expect(processesWithEnvironment(marked)).toEqual(pids);
  expect((await ask(second, { max_tokens: 4 })).status).toBe(200);
  expect(worker.output()).toContain("lost the head");
});

test("1000 slow streams are held at once, each to its end", async () => {
  using home = tempDir();
  await using head = await startHead(home.path);
  await using _ = join(home.path, head, "--model", "m", "--ttft", "1s", "--itl", "2s");
  await ready(head, "m", 1);
  const { hostname, port } = new URL(head.url);
  const body = chat({ max_tokens: 3 });
  const request = `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;
  // Raw sockets: fetch holds no more than 256 requests at once in a test.
  const answers = Array.from({ length: 1000 }, () => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    let text = "";
    Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open: (socket) => void socket.write(request),
        data: (_, data) => void (text += data.toString()),
        close: () => resolve(text),
        error: (_, error) => reject(error),
        connectError: (_, error) => reject(error),
      },
    }).catch(reject);
    return promise;
  });
  await waitFor(async () => (await status(head)).models[0]?.in_flight === 1000, {
    what: "1000 streams in flight",
    timeoutMs: 25_000,
  });
  const texts = await Promise.all(answers);
  expect(texts.filter((text) => text.startsWith("HTTP/1.1 200")).length).toBe(1000);
  expect(texts.filter((text) => text.includes("data: [DONE]")).length).toBe(1000);
  expect((await status(head)).models[0]?.in_flight).toBe(0);
}, 60_000);

test.each(["SIGTERM", "SIGINT"] as const)(
  "%s ends join and head with 0 and leaves no process",
  async (signal) => {
    using home = tempDir();
    await using head = await startHead(home.path);
    await using worker = join(home.path, head, "--model", "m", "--itl", "20ms");
    const { workers } = await ready(head, "m", 1);
    const marked = `LLMNODE_ENGINE_ID=${workers[0]?.id}-1`;
    const [engine = 0] = processesWithEnvironment(marked);
    const running = ask(head, { max_tokens: 30 }).then((response) => response.text());
    await waitFor(async () => (await status(head)).models[0]?.in_flight === 1);
    worker.kill(signal);
    expect((await worker.finished).code).toBe(0);
    expect(await running).toEndWith("data: [DONE]\n\n");
    expect(isRunning(engine)).toBe(false);
    expect((await status(head)).workers[0]?.state).toBe("left");
    head.process.kill(signal);
    expect((await head.process.finished).code).toBe(0);
  },
);

test("a second Ctrl-C does not wait for running requests, and still leaves no process", async () => {
  using home = tempDir();
  await using head = await startHead(home.path);
  await using worker = join(home.path, head, "--model", "m", "--itl", "2s");
  const { workers } = await ready(head, "m", 1);
  const [engine = 0] = processesWithEnvironment(`LLMNODE_ENGINE_ID=${workers[0]?.id}-1`);
  const running = ask(head, { max_tokens: 1000 }).then((response) => response.text());
  await waitFor(async () => (await status(head)).models[0]?.in_flight === 1);
  worker.kill("SIGINT");
  await worker.waitForLine("Ctrl-C again");
  // A signal within 200 ms of the first is taken for the same one come twice.
  await Bun.sleep(300);
  worker.kill("SIGINT");
  await worker.finished;
  expect(isRunning(engine)).toBe(false);
  expect(await running).toContain('"error"');
});
