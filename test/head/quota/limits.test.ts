import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import OpenAI from "openai";
import { ADMIN_TOKEN_FILE } from "../../../src/protocol/head-files.ts";
import { resetText } from "../../../src/head/quota/limits.ts";
import { USAGE_FILE } from "../../../src/head/quota/usage-file.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import {
  chatAnswer,
  eventStream,
  startEngine,
  startRawEngine,
  type TestEngine,
} from "../../helpers/engine.ts";
import { type TempDir, tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const messages = [{ role: "user" as const, content: "hi" }];
const ask = (more: object = {}) => ({ model: "m", messages, ...more });
const USAGE = {
  prompt_tokens: 30,
  completion_tokens: 12,
  prompt_tokens_details: { cached_tokens: 16 },
};

interface Limited {
  requests_per_minute?: number;
  tokens_per_minute?: number;
  concurrency?: number;
  tokens_per_day?: number;
  role?: string;
  name?: string;
}

interface Front extends AsyncDisposable {
  readonly head: TestHead;
  /** Makes a key. */
  key(limits: Limited): Promise<{ id: string; key: string }>;
  post(key: string, body: object, init?: RequestInit): Promise<Response>;
  get(path: string, key?: string): Promise<Response>;
  client(key: string): OpenAI;
}

/** A head with one worker whose engine is at `port`. */
async function startFront(
  port: number,
  how: { dir?: TempDir; settings?: typeof FAST } = {},
): Promise<Front> {
  await using stack = new AsyncDisposableStack();
  const dir = how.dir ?? stack.use(tempDir());
  const settings = { ...FAST, usage: { flushMs: 20 }, ...how.settings };
  const head = stack.use(await startTestHead(settings, { dataDir: dir.path }));
  stack.use(fakeWorker(head, { port, models: ["m"] }));
  await head.ready("m");
  const admin = readFileSync(path.join(dir.path, ADMIN_TOKEN_FILE), "utf8").trim();
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const opened = stack.move();
  return {
    head,
    async key(limits) {
      const response = await head.post("/api/v1/keys", limits, {
        headers: { "content-type": "application/json", ...bearer(admin) },
      });
      const made = (await response.json()) as { key: string; api_key: { id: string } };
      expect(response.status).toBe(200);
      return { id: made.api_key.id, key: made.key };
    },
    post: (key, body, init = {}) =>
      head.post(CHAT, body, {
        ...init,
        headers: { "content-type": "application/json", ...bearer(key) },
      }),
    get: (at, key) => fetch(head.url + at, key === undefined ? {} : { headers: bearer(key) }),
    client: (apiKey) => new OpenAI({ apiKey, baseURL: `${head.url}/v1`, maxRetries: 0 }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

const answering = (usage: object = USAGE) =>
  startEngine((_, body) =>
    body.includes('"stream":true')
      ? eventStream([
          CHUNK,
          `data: ${JSON.stringify({ choices: [], usage })}\n\n`,
          "data: [DONE]\n\n",
        ])
      : Response.json({ choices: [{ index: 0, message: { content: "x" } }], usage }),
  );

interface UsageJson {
  rows: Record<string, unknown>[];
  total: Record<string, number>;
}

async function usageOf(front: Front, query: string, key?: string): Promise<UsageJson> {
  const response = await front.get(`/api/v1/usage${query}`, key);
  expect(response.status).toBe(200);
  return (await response.json()) as UsageJson;
}

async function refusal(response: Response) {
  const { error } = (await response.json()) as { error: Record<string, unknown> };
  return [response.status, error["type"], error["code"]];
}

test("of N + 1 requests at once exactly N are answered; the other never reaches a worker, and is told when", async () => {
  await using engine = answering();
  await using front = await startFront(engine.port);
  const { key } = await front.key({ requests_per_minute: 4 });
  const client = front.client(key);
  const results = await Promise.allSettled(
    Array.from({ length: 5 }, () => client.chat.completions.create(ask())),
  );
  const failed = results.filter((result) => result.status === "rejected");
  expect([results.length - failed.length, engine.seen.length]).toEqual([4, 4]);
  const error: unknown = failed[0]?.reason;
  if (!(error instanceof OpenAI.RateLimitError)) throw error;
  expect([error.status, error.code, error.type]).toEqual([
    429,
    "rate_limit_exceeded",
    "rate_limit_exceeded",
  ]);
  const header = (name: string) => error.headers.get(name);
  const afterMs = Number(header("retry-after-ms"));
  expect(afterMs).toBeGreaterThan(30_000);
  expect(afterMs).toBeLessThanOrEqual(60_000);
  expect(Math.ceil(afterMs / 1000)).toBe(Number(header("retry-after")));
  expect(["limit", "remaining"].map((part) => header(`x-ratelimit-${part}-requests`))).toEqual([
    "4",
    "0",
  ]);
  expect(header("x-ratelimit-reset-requests")).toMatch(/^(1m0s|[345]\d(\.\d)?s)$/);
  expect(header("x-ratelimit-limit-tokens")).toBeNull();
  expect(header("x-should-retry")).toBeNull();
});

test("good answers tell what is left, streams as well; a key without limits is told nothing", async () => {
  await using engine = answering();
  await using front = await startFront(engine.port);
  const { key } = await front.key({ requests_per_minute: 10, tokens_per_minute: 100_000 });
  const told = async (body: object) => {
    const response = await front.post(key, body);
    await response.text();
    expect(response.status).toBe(200);
    return ["requests", "tokens"].flatMap((what) =>
      ["limit", "remaining"].map((part) =>
        Number(response.headers.get(`x-ratelimit-${part}-${what}`)),
      ),
    );
  };
  // The prompt by its bytes, and what the answer may be.
  const prompt = Math.ceil(JSON.stringify(messages).length / 4);
  expect(await told(ask({ max_tokens: 100 }))).toEqual([10, 9, 100_000, 99_900 - prompt]);
  const settled = () =>
    waitFor(async () => (await usageOf(front, `?by=key`)).total["requests"], { what: "its end" });
  await settled();
  // The first one has cost 42 in the end.
  const left = 100_000 - 42 - prompt;
  expect(await told(ask({ stream: true }))).toEqual([10, 8, 100_000, left - 1024]);
  const free = await front.key({});
  const response = await front.post(free.key, ask());
  await response.text();
  expect([...response.headers.keys()].filter((name) => name.includes("ratelimit"))).toEqual([]);
});

const CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n';

/** Waits for the only slot of a key to be free, and makes sure that it is one. */
async function expectOneSlot(front: Front, key: string): Promise<void> {
  await waitFor(
    async () => {
      const { status } = await front.post(key, ask({ user: "ok" }));
      if (status !== 429) expect([200, 503]).toContain(status);
      return status === 200;
    },
    { what: "a free slot", timeoutMs: 5000 },
  );
  const gone = new AbortController();
  const body = ask({ user: "endless", stream: true });
  const held = await front.post(key, body, { signal: gone.signal });
  expect(held.status).toBe(200);
  const second = await front.post(key, ask({ user: "ok" }));
  expect(second.headers.get("retry-after")).toBe("1");
  expect(await refusal(second)).toEqual([429, "rate_limit_exceeded", "rate_limit_exceeded"]);
  gone.abort();
}

/** Each begins a request that holds the only slot, and ends it in its own way. */
const ENDS: Record<string, (front: Front, key: string, engine: TestEngine) => Promise<void>> = {
  async "a good end"(front, key) {
    expect((await front.post(key, ask({ user: "ok" }))).status).toBe(200);
  },
  async "a client that leaves before the first byte"(front, key, engine) {
    const gone = new AbortController();
    const asking = front.post(key, ask({ user: "silent" }), { signal: gone.signal });
    const ended = asking.then(String, String);
    await waitFor(() => engine.active > 0);
    gone.abort();
    await ended;
  },
  async "a client that leaves a stream"(front, key) {
    const gone = new AbortController();
    const response = await front.post(key, ask({ user: "endless", stream: true }), {
      signal: gone.signal,
    });
    const reader = response.body?.getReader();
    await reader?.read();
    gone.abort();
  },
  async "a client that leaves the queue"(front, key) {
    const gone = new AbortController();
    const body = { ...ask({ user: "ok" }), model: "nobody-has-it-yet" };
    const ended = front.post(key, body, { signal: gone.signal }).then(String, String);
    await Bun.sleep(30);
    gone.abort();
    await ended;
  },
  async "an engine that refuses"(front, key) {
    expect((await front.post(key, ask({ user: "bad" }))).status).toBe(400);
  },
  async "an engine that fails"(front, key) {
    expect((await front.post(key, ask({ user: "broken" }))).status).toBe(500);
  },
  async "an engine that is too slow"(front, key) {
    expect((await front.post(key, ask({ user: "silent" }))).status).toBe(504);
  },
  async "a model that nobody has"(front, key) {
    const response = await front.post(key, { ...ask({ user: "ok" }), model: "unknown" });
    expect([404, 503]).toContain(response.status);
  },
  async "a body that is none"(front, key) {
    const response = await front.post(key, { messages });
    expect(response.status).toBe(400);
  },
};

for (const [what, end] of Object.entries(ENDS)) {
  test(`the only slot of a key is free again after ${what}`, async () => {
    await using engine = startEngine(async (_, body, signal) => {
      const { user } = JSON.parse(body) as { user: string };
      switch (user) {
        case "silent":
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
          return new Response();
        case "endless":
          return eventStream(
            (async function* () {
              yield CHUNK;
              await new Promise((resolve) => signal.addEventListener("abort", resolve));
            })(),
          );
        case "bad":
          return Response.json({ error: { message: "too long" } }, { status: 400 });
        case "broken":
          return new Response("oh no", { status: 500 });
        default:
          return chatAnswer("hi");
      }
    });
    const proxy = { totalTimeoutMs: 1500 };
    await using front = await startFront(engine.port, { settings: { ...FAST, proxy } });
    const { key } = await front.key({ concurrency: 1 });
    await end(front, key, engine);
    await expectOneSlot(front, key);
  });
}

test("the only slot of a key is free again after an engine that crashes", async () => {
  const piece = `${CHUNK.length.toString(16)}\r\n${CHUNK}\r\n`;
  const begun = `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n${piece}`;
  const whole = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
  await using engine = startRawEngine((socket, text) => {
    if (text.includes("crash") || text.includes("endless")) socket.write(begun);
    else if (text.includes("ok")) socket.write(whole);
    if (text.includes("crash")) setTimeout(() => socket.reset(), 20);
  });
  await using front = await startFront(engine.port);
  const { key } = await front.key({ concurrency: 1 });
  const response = await front.post(key, ask({ user: "crash", stream: true }));
  expect(await response.text()).toContain('"error"');
  await expectOneSlot(front, key);
});

test("tokens of a day: used up, it is said in a way that nobody tries again, and a restart changes nothing", async () => {
  using dir = tempDir();
  await using engine = answering({ prompt_tokens: 90, completion_tokens: 20 });
  let key = "";
  {
    await using front = await startFront(engine.port, { dir });
    ({ key } = await front.key({ tokens_per_day: 100 }));
    expect((await front.post(key, ask())).status).toBe(200);
    await waitFor(async () => (await usageOf(front, "")).total["requests"], { what: "its end" });
  }
  await using front = await startFront(engine.port, { dir });
  const response = await front.post(key, ask());
  expect(response.headers.get("x-should-retry")).toBe("false");
  expect(response.headers.get("retry-after")).toBeNull();
  expect(await refusal(response)).toEqual([429, "insufficient_quota", "insufficient_quota"]);
  expect(engine.seen).toHaveLength(1);
});

test("a prompt that is longer than a minute's tokens is refused for good", async () => {
  await using engine = answering();
  await using front = await startFront(engine.port);
  const { key } = await front.key({ tokens_per_minute: 50 });
  const long = [{ role: "user", content: "x".repeat(400) }];
  const response = await front.post(key, ask({ messages: long }));
  expect(response.headers.get("x-should-retry")).toBe("false");
  expect(await refusal(response)).toEqual([429, "rate_limit_exceeded", "rate_limit_exceeded"]);
  expect((await front.post(key, ask())).status).toBe(200);
});

test("a service counts as a request; tokens are none of its", async () => {
  await using service = startEngine(() => new Response("said"));
  await using front = await startFront(service.port);
  await using worker = fakeWorker(front.head);
  worker.report({ service: "tts", kind: "generic", port: service.port });
  const { id, key } = await front.key({ requests_per_minute: 2, tokens_per_minute: 1 });
  const say = async () => {
    const response = await front.get("/v1/service/tts/say", key);
    return [response.status, response.headers.get("x-ratelimit-remaining-requests")];
  };
  await waitFor(async () => {
    const response = await fetch(`${front.head.url}/api/v1/status`);
    const { services } = (await response.json()) as { services: { ready: number }[] };
    return services[0]?.ready === 1;
  });
  expect([await say(), await say(), await say()]).toEqual([
    [200, "1"],
    [200, "0"],
    [429, "0"],
  ]);
  await waitFor(async () => (await usageOf(front, "")).total["requests"] === 3);
  expect((await usageOf(front, "?by=key")).rows).toMatchObject([
    { key: id, key_name: null, requests: 3, errors: 1, input_tokens: 0, output_tokens: 0 },
  ]);
});

test("usage of a stream is that of the whole answer, by key, for whoever may see it", async () => {
  await using engine = answering();
  await using front = await startFront(engine.port);
  const whole = await front.key({ name: "whole" });
  const streamed = await front.key({ name: "streamed" });
  const viewer = await front.key({ name: "viewer", role: "viewer" });
  await (await front.post(whole.key, ask())).text();
  await (await front.post(streamed.key, ask({ stream: true }))).text();
  const done = await waitFor(async () => {
    const usage = await usageOf(front, "");
    return usage.total["requests"] === 2 && usage;
  });
  const row = ({ id }: { id: string }) => done.rows.find(({ key }) => key === id);
  const sums = {
    model: "m",
    requests: 1,
    errors: 0,
    input_tokens: 30,
    cached_input_tokens: 16,
    output_tokens: 12,
    estimated_tokens: 0,
  };
  expect(row(whole)).toEqual({ key: whole.id, key_name: "whole", ...sums });
  expect(row(streamed)).toEqual({ key: streamed.id, key_name: "streamed", ...sums });

  expect((await usageOf(front, "?by=key", whole.key)).rows).toMatchObject([{ key: whole.id }]);
  const foreign = await front.get(`/api/v1/usage?key=${streamed.id}`, whole.key);
  expect(foreign.status).toBe(403);
  const one = await usageOf(front, `?by=day,hour,model&key=${streamed.id}`, viewer.key);
  expect(one.rows).toHaveLength(1);
  expect(Object.keys(one.rows[0] ?? {})).not.toContain("key");
  expect(String(one.rows[0]?.["hour"])).toStartWith(String(one.rows[0]?.["day"]));
  expect((await usageOf(front, "?by=key", viewer.key)).rows).toHaveLength(2);
  for (const query of ["?by=week", "?since_ms=-1", "?since_ms=x", `?model=${"m".repeat(600)}`]) {
    expect((await front.get(`/api/v1/usage${query}`)).status).toBe(400);
  }
  expect(JSON.stringify(done)).not.toContain(whole.key);
});

test("metrics count tokens by key, and what limits refuse; never a key itself", async () => {
  await using engine = answering();
  await using front = await startFront(engine.port);
  const { id, key } = await front.key({ requests_per_minute: 1 });
  await (await front.post(key, ask())).text();
  expect((await front.post(key, ask())).status).toBe(429);
  expect((await front.post("sk-ln-nobody-nothing", ask())).status).toBe(401);
  await waitFor(async () => (await usageOf(front, "?by=key")).total["requests"] === 2);
  const text = await (await front.get("/metrics")).text();
  expect(text).toContain(`llmnode_tokens_total{key="${id}",model="m",type="input"} 30\n`);
  expect(text).toContain('llmnode_limit_rejections_total{limit="requests_per_minute"} 1\n');
  expect(text).toContain('llmnode_limit_rejections_total{limit="concurrency"} 0\n');
  expect(text).toContain('llmnode_auth_failures_total{reason="unknown"} 1\n');
  expect(text).not.toContain(key);
  const { rows } = await usageOf(front, "?by=key");
  expect(rows).toMatchObject([{ key: id, requests: 2, errors: 1, input_tokens: 30 }]);
});

test("a head whose usage cannot be written serves on, counts on, and writes it later", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, "head", USAGE_FILE);
  mkdirSync(file, { recursive: true });
  await using engine = answering();
  {
    await using front = await startFront(engine.port, { dir });
    const { key } = await front.key({ tokens_per_day: 1000 });
    await (await front.post(key, ask())).text();
    const total = await waitFor(async () => {
      const usage = await usageOf(front, "");
      return usage.total["requests"] === 1 && usage.total;
    });
    expect(total["input_tokens"]).toBe(30);
    expect(front.head.lines.join("")).toContain("usage cannot be written");
    rmSync(file, { recursive: true });
  }
  await using front = await startFront(engine.port, { dir });
  expect((await usageOf(front, "")).total["input_tokens"]).toBe(30);
});

test("times are told as OpenAI tells them", () => {
  const times = [0, 0.2, 120, 999.5, 1000, 1234, 59_999, 60_000, 61_001, 3_600_000];
  expect(times.map(resetText)).toEqual([
    ...["0s", "1ms", "120ms", "1s", "1s", "1.3s", "1m0s", "1m0s", "1m1.1s", "60m0s"],
  ]);
});
