import { expect, test } from "bun:test";
import {
  FAST,
  type FakeWorker,
  fakeWorker,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { type Answer, chatAnswer, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = (more: object = {}) => ({ model: "m", messages: [], ...more });
const good: Answer = () => chatAnswer("good");
const say = (status: number, message = `this is ${status}`): Answer => {
  return () => Response.json({ error: { message } }, { status });
};

interface Cluster extends AsyncDisposable {
  head: TestHead;
  engines: TestEngine[];
  workers: FakeWorker[];
}

/** Workers of one model whose engines give these answers. */
async function startCluster(
  answers: readonly Answer[],
  { via = "direct", proxy = {} }: { via?: "direct" | "lane"; proxy?: object } = {},
): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const head = stack.use(await startTestHead({ ...FAST, proxy }));
  const engines = answers.map((answer) => stack.use(startEngine(answer)));
  const workers: FakeWorker[] = [];
  for (const { port } of engines) {
    const options = { port, models: ["m"] };
    const worker = via === "lane" ? await laneWorker(head, options) : fakeWorker(head, options);
    workers.push(stack.use(worker));
  }
  await head.ready("m", answers.length);
  const all = stack.move();
  return { head, engines, workers, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function idle(head: TestHead): Promise<void> {
  await waitFor(async () => (await head.status()).models.every((model) => model.in_flight === 0), {
    what: "no request in flight",
  });
}

const total = (engines: readonly TestEngine[]) =>
  engines.reduce((sum, { seen }) => sum + seen.length, 0);

test.each(["direct", "lane"] as const)(
  "an engine that is killed before its first byte: another answers (%s)",
  async (via) => {
    const stuck: Answer = (_, body) =>
      body.includes("stay") ? new Promise<Response>(() => {}) : chatAnswer("good");
    await using cluster = await startCluster([stuck, good], { via });
    const { head, engines } = cluster;
    const [first, second] = engines;
    // Until one has it that does not answer it.
    const answers = Array.from({ length: 8 }, () => head.post(CHAT, ask({ user: "stay" })));
    await waitFor(() => total(engines) >= 8);
    expect(first?.seen.length).toBeGreaterThan(0);
    first?.kill();
    const statuses = (await Promise.all(answers)).map(({ status }) => status);
    expect(statuses).toEqual(answers.map(() => 200));
    expect(second?.seen.length).toBe(8);
    await idle(head);
  },
);

test("attempts are bounded, and the counters return to nothing", async () => {
  await using cluster = await startCluster(Array.from({ length: 6 }, () => say(502)));
  const { head, engines } = cluster;
  const response = await head.post(CHAT, ask({ stream: true }));
  expect([response.status, response.headers.get("x-llmnode-attempts")]).toEqual([502, "3"]);
  expect(total(engines)).toBe(3);
  await idle(head);
});

test("a replica that answers 503 at once does not attract the traffic", async () => {
  await using cluster = await startCluster([say(503), good, good]);
  const { head, engines } = cluster;
  const count = 200;
  for (let i = 0; i < count; i += 1) expect((await head.post(CHAT, ask())).status).toBe(200);
  expect(engines[0]?.seen.length).toBeLessThan(count * 0.05);
  await idle(head);
});

test("requests at once are spread: no engine gets them all", async () => {
  const gate = Promise.withResolvers<void>();
  const waiting: Answer = async () => {
    await gate.promise;
    return chatAnswer("good");
  };
  await using cluster = await startCluster([waiting, waiting, waiting, waiting]);
  const { head, engines } = cluster;
  const answers = Array.from({ length: 40 }, () => head.post(CHAT, ask()));
  await waitFor(() => total(engines) === 40);
  for (const { seen } of engines) expect(seen.length).toBe(10);
  gate.resolve();
  for (const answer of answers) expect((await answer).status).toBe(200);
  await idle(head);
});

test.each([400, 404, 405, 409, 413, 422, 500])("status %d is kept", async (status) => {
  await using cluster = await startCluster([say(status), say(status)]);
  const response = await cluster.head.post(CHAT, ask());
  expect(response.status).toBe(status);
  expect(await response.json()).toMatchObject({ error: { message: `this is ${status}` } });
});

test("a prompt that is too long for one replica goes to one with a longer context", async () => {
  const short = say(400, "This model's maximum context length is 2048 tokens.");
  await using cluster = await startCluster([short, good]);
  const { head, workers } = cluster;
  for (const [i, maxModelLen] of [2048, 8192].entries()) {
    const models = [{ id: "m", parent: "", card: "", maxModelLen }];
    workers[i]?.send({
      message: "models",
      models: { engine: "1", run: "", revision: 9, models, more: false },
    });
  }
  await waitFor(async () => {
    const list = (await (await fetch(`${head.url}/v1/models`)).json()) as { data: object[] };
    return JSON.stringify(list).includes("8192");
  });
  const attempts = new Set<string | null>();
  await waitFor(async () => {
    const response = await head.post(CHAT, ask());
    expect(response.status).toBe(200);
    attempts.add(response.headers.get("x-llmnode-attempts"));
    return attempts.size === 2;
  });
  expect([...attempts].sort()).toEqual(["1", "2"]);
});

test("an engine that refuses its key gets no more requests until it has begun anew", async () => {
  await using cluster = await startCluster([say(401), good]);
  const { head, engines, workers } = cluster;
  const [bad] = engines;
  await waitFor(async () => {
    expect((await head.post(CHAT, ask())).status).toBe(200);
    return bad?.seen.length === 1;
  });
  for (let i = 0; i < 20; i += 1) expect((await head.post(CHAT, ask())).status).toBe(200);
  expect(bad?.seen.length).toBe(1);
  workers[0]?.report({ run: "another life" });
  workers[0]?.models("m");
  await waitFor(async () => {
    expect((await head.post(CHAT, ask())).status).toBe(200);
    return bad?.seen.length === 2;
  });
});

test("a response is asked for where it was made, until that engine has begun anew", async () => {
  const make =
    (id: string): Answer =>
    (request) =>
      Response.json({ id, method: request.method });
  await using cluster = await startCluster([make("resp_a"), make("resp_b")]);
  const { head, workers } = cluster;
  const made = new Set<string>();
  await waitFor(async () => {
    const response = await head.post("/v1/responses", { model: "m", input: "x" });
    made.add(((await response.json()) as { id: string }).id);
    return made.size === 2;
  });
  for (let i = 0; i < 8; i += 1) {
    for (const id of made) {
      const response = await fetch(`${head.url}/v1/responses/${id}`);
      expect(await response.json()).toEqual({ id, method: "GET" });
    }
  }
  expect((await fetch(`${head.url}/v1/responses/resp_a`, { method: "HEAD" })).status).toBe(200);
  const wrong = await fetch(`${head.url}/v1/responses/resp_a`, { method: "PUT" });
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "GET, DELETE"]);
  expect((await fetch(`${head.url}/v1/responses/resp_a/nothing`)).status).toBe(404);
  workers[0]?.report({ run: "another life" });
  await waitFor(async () => (await fetch(`${head.url}/v1/responses/resp_a`)).status === 404);
  expect((await fetch(`${head.url}/v1/responses/resp_b`)).status).toBe(200);
});

test("a cluster without room says so, with when to come again", async () => {
  const proxy = { roomTimeoutMs: 300, backoffMs: 5, maxBackoffMs: 50 };
  await using cluster = await startCluster([say(429), say(503)], { proxy });
  const { head } = cluster;
  const response = await head.post(CHAT, ask());
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await response.json()).toMatchObject({ error: { code: "no_ready_replica" } });
  await idle(head);
});

test("attempts, repeats and clients that left are counted", async () => {
  const stuck: Answer = (_, body) =>
    body.includes("stay")
      ? new Promise<Response>(() => {})
      : say(502)(new Request("http://x"), "", new AbortController().signal);
  await using cluster = await startCluster([stuck, good]);
  const { head, engines } = cluster;
  await waitFor(async () => {
    expect((await head.post(CHAT, ask())).status).toBe(200);
    return engines[0]?.seen.length === 1;
  });
  const client = new AbortController();
  const { signal } = client;
  const left = Array.from({ length: 4 }, () =>
    head.post(CHAT, ask({ user: "stay" }), { signal }).then(
      () => "answered",
      () => "left",
    ),
  );
  await waitFor(() => engines[0]?.active !== 0);
  client.abort();
  await Promise.all(left);
  await idle(head);
  const text = await (await fetch(`${head.url}/metrics`)).text();
  expect(text).toMatch(
    /llmnode_attempts_total\{model="m",worker="[^"]+",outcome="bad_gateway"\} \d/,
  );
  expect(text).toMatch(/llmnode_attempts_total\{model="m",worker="[^"]+",outcome="ok"\} \d/);
  expect(text).toMatch(/llmnode_client_disconnects_total\{model="m",phase="engine"\} \d/);
  expect(text).toContain('llmnode_retries_total{model="m",reason="bad_gateway"} 1');
});
