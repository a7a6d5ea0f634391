import { expect, test } from "bun:test";
import type { HeadSettings } from "../../../src/head/options.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../../helpers/engine.ts";
import { parseExposition } from "../../helpers/exposition.ts";
import { waitFor } from "../../helpers/wait.ts";
import { sim, startTestWorker, tempDir } from "../../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({
  model: "m",
  messages: [{ role: "user", content: "hi" }],
  ...extra,
});

function settings(cluster: Partial<HeadSettings["cluster"]> = {}): Partial<HeadSettings> {
  return { ...FAST, cluster: { ...FAST.cluster, queueTimeoutMs: 30_000, ...cluster } };
}

interface Row {
  name: string;
  queued: number;
  in_flight: number;
}

async function rowOf(head: TestHead): Promise<Row | undefined> {
  const { models } = (await head.status()) as unknown as { models: Row[] };
  return models.find(({ name }) => name === "m");
}

async function queued(head: TestHead, count: number): Promise<void> {
  const what = `${count} waiting requests`;
  await waitFor(async () => (await rowOf(head))?.queued === count, { what });
}

async function codeOf(response: Response): Promise<unknown[]> {
  const body = (await response.json()) as { error?: { code: string } };
  return [response.status, body.error?.code];
}

/** An engine that answers when it is told to, the requests in the order of their arrival. */
function slowEngine() {
  const gates: (() => void)[] = [];
  const engine = startEngine(async () => {
    const gate = Promise.withResolvers<void>();
    gates.push(gate.resolve);
    await gate.promise;
    return chatAnswer("slow");
  });
  return {
    engine,
    gates,
    async answerNext() {
      (await waitFor(() => gates.shift(), { what: "a request at the engine" }))();
    },
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

test("a request that comes before its engine is ready is answered once it is", async () => {
  await using engine = startEngine(() => chatAnswer("warm"));
  await using head = await startTestHead(settings());
  await using worker = fakeWorker(head, { models: [] });
  worker.report({ state: "STARTING", phase: "load 10%", expectedModels: ["m"] });
  await waitFor(() => rowOf(head));
  const answering = head.post(CHAT, ask());
  await queued(head, 1);
  const scraped = await (await fetch(`${head.url}/metrics`)).text();
  const depth = parseExposition(scraped).get("llmnode_queue_depth")?.samples;
  expect(depth?.map(({ labels, value }) => [labels["model"], value])).toEqual([["m", 1]]);
  worker.report({ state: "READY", port: engine.port });
  worker.models("m");
  const answer = await answering;
  expect([answer.status, await answer.json()]).toMatchObject([
    200,
    { choices: [{ message: { content: "warm" } }] },
  ]);
  expect(Number(answer.headers.get("x-llmnode-queue-ms"))).toBeGreaterThan(0);
  expect((await rowOf(head))?.queued).toBe(0);
});

test("a model that nobody has yet is waited for while the head has just started", async () => {
  await using engine = startEngine(() => chatAnswer("here"));
  await using head = await startTestHead(settings({ settleMs: 30_000 }));
  const answering = head.post(CHAT, ask());
  const scraped = await waitFor(
    async () => {
      const text = await (await fetch(`${head.url}/metrics`)).text();
      return /llmnode_queue_depth\{model="unresolved"\} 1/.test(text) && text;
    },
    { what: "the waiting request" },
  );
  // What clients ask for is no label.
  expect(scraped).not.toContain('llmnode_queue_depth{model="m"}');
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  expect((await answering).status).toBe(200);
});

test("once that time is over a model that nobody has does not exist", async () => {
  await using head = await startTestHead(settings({ settleMs: 300 }));
  expect(await codeOf(await head.post(CHAT, ask()))).toEqual([404, "model_not_found"]);
});

test("time over: 503 with Retry-After, and the phase and age of the start", async () => {
  await using head = await startTestHead(settings({ queueTimeoutMs: 300 }));
  await using worker = fakeWorker(head, { models: [] });
  const phase = "load 10%";
  worker.report({ state: "STARTING", phase, expectedModels: ["m"], sinceMs: 5000 });
  await waitFor(() => rowOf(head));
  const response = await head.post(CHAT, ask());
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect(error.code).toBe("no_ready_replica");
  expect(error.message).toMatch(/starting \(load 10%\) for \d\.\ds\.$/);
});

test("an engine that is full is waited for, in turn", async () => {
  await using slow = slowEngine();
  await using head = await startTestHead(settings());
  await using worker = fakeWorker(head, { port: slow.engine.port, models: ["m"] });
  worker.report({ maxInFlight: 1, port: slow.engine.port });
  await head.ready("m");
  const first = head.post(CHAT, ask());
  await waitFor(() => slow.gates.length === 1);
  const others = [1, 2].map((n) => head.post(CHAT, ask({ n })));
  await queued(head, 2);
  expect(slow.engine.active).toBe(1);
  for (let i = 0; i < 3; i += 1) await slow.answerNext();
  const answers = await Promise.all([first, ...others]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  expect(slow.engine.seen.length).toBe(3);
  await waitFor(async () => (await rowOf(head))?.in_flight === 0);
});

test("a client that goes leaves the queue, and the engine never hears of its request", async () => {
  await using slow = slowEngine();
  await using head = await startTestHead(settings());
  await using worker = fakeWorker(head, { port: slow.engine.port, models: ["m"] });
  worker.report({ maxInFlight: 1, port: slow.engine.port });
  await head.ready("m");
  const first = head.post(CHAT, ask());
  await waitFor(() => slow.gates.length === 1);
  const leaver = new AbortController();
  const left = head.post(CHAT, ask(), { signal: leaver.signal }).then(
    () => "answered",
    () => "gone",
  );
  await queued(head, 1);
  leaver.abort();
  expect(await left).toBe("gone");
  await queued(head, 0);
  await slow.answerNext();
  expect((await first).status).toBe(200);
  const last = head.post(CHAT, ask());
  await slow.answerNext();
  expect((await last).status).toBe(200);
  expect(slow.engine.seen.length).toBe(2);
});

test("a full queue sheds its newest with 503 and Retry-After, and the rest is served", async () => {
  await using slow = slowEngine();
  await using head = await startTestHead(settings({ maxWaiting: 2 }));
  await using worker = fakeWorker(head, { port: slow.engine.port, models: ["m"] });
  worker.report({ maxInFlight: 1, port: slow.engine.port });
  await head.ready("m");
  const first = head.post(CHAT, ask());
  await waitFor(() => slow.gates.length === 1);
  const waiting = [head.post(CHAT, ask()), head.post(CHAT, ask())];
  await queued(head, 2);
  // All are of one client address: the longest line is its own.
  const shed = await head.post(CHAT, ask());
  expect(shed.headers.get("retry-after")).toBe("2");
  expect(await codeOf(shed)).toEqual([503, "queue_full"]);
  for (let i = 0; i < 3; i += 1) await slow.answerNext();
  const answers = await Promise.all([first, ...waiting]);
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
});

test("who waits for a stream gets comments meanwhile", async () => {
  const proxy = { firstKeepAliveMs: 50, keepAliveMs: 50 };
  await using head = await startTestHead({ ...settings(), proxy });
  await using worker = fakeWorker(head, { models: [] });
  worker.report({ state: "STARTING", expectedModels: ["m"] });
  await waitFor(() => rowOf(head));
  const response = await head.post(CHAT, ask({ stream: true }));
  const reader = response.body?.getReader();
  const first = await reader?.read();
  expect(new TextDecoder().decode(first?.value)).toStartWith(":");
  expect((await rowOf(head))?.queued).toBe(1);
  await reader?.cancel();
  await queued(head, 0);
});

test("a head that stops tells those who wait", async () => {
  const head = await startTestHead(settings());
  await using worker = fakeWorker(head, { models: [] });
  worker.report({ state: "STARTING", expectedModels: ["m"] });
  await waitFor(() => rowOf(head));
  const answering = head.post(CHAT, ask());
  await queued(head, 1);
  await head[Symbol.asyncDispose]();
  expect(await codeOf(await answering)).toEqual([503, "shutting_down"]);
});

test("a request that every replica has failed does not wait for them", async () => {
  await using engine = startEngine(() => new Response("no", { status: 500 }));
  await using head = await startTestHead(settings());
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  expect((await head.post(CHAT, ask())).status).toBe(500);
  expect(engine.seen.length).toBe(1);
});

test("a worker whose engine crashes and starts again: who comes meanwhile is answered", async () => {
  using dir = tempDir();
  await using head = await startTestHead(settings());
  const argv = sim("--model", "m", "--load-time", "400ms", "--fault", "crash-on-text=deadly");
  await using _ = await startTestWorker(head, dir.path, { engine: { argv } });
  await waitFor(() => rowOf(head));
  // Before it is ready for the first time.
  expect((await head.post(CHAT, ask())).status).toBe(200);
  const deadly = { messages: [{ role: "user", content: "deadly" }] };
  const killed = await head.post(CHAT, ask(deadly));
  expect(await codeOf(killed)).toEqual([502, "upstream_unreachable"]);
  // It restarts: three clients that know nothing of it.
  const answers = await Promise.all([1, 2, 3].map(() => head.post(CHAT, ask())));
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
  // The second death of the same body is its last.
  const again = await head.post(CHAT, ask(deadly));
  expect(again.status).toBe(502);
  expect(await codeOf(await head.post(CHAT, ask(deadly)))).toEqual([502, "engine_crashed"]);
  expect((await head.post(CHAT, ask())).status).toBe(200);
});
