import { expect, test } from "bun:test";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine, startRawEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({
  model: "m",
  messages: [{ role: "user", content: "hi" }],
  ...extra,
});

async function errorOf(
  response: Response,
): Promise<{ status: number; code: unknown; message: string }> {
  const body = (await response.json()) as { error: Record<string, unknown> };
  expect(Object.keys(body.error).sort()).toEqual(["code", "message", "param", "type"]);
  return {
    status: response.status,
    code: body.error["code"],
    message: String(body.error["message"]),
  };
}

async function idle(head: TestHead): Promise<void> {
  await waitFor(async () => (await head.status()).models.every((model) => model.in_flight === 0), {
    what: "no request in flight",
  });
}

test("a request reaches the engine byte for byte, with the headers that are its business", async () => {
  await using engine = startEngine(() => chatAnswer("hello"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const body = '{ "zeta": 1e400, "x":9007199254740993,"messages":[],\n "model" : "m" }';
  const response = await head.post(`${CHAT}?trace=1`, body, {
    headers: {
      "content-type": "application/x-www-form-urlencoded",
      authorization: "Bearer secret",
      cookie: "a=b",
      "x-stainless-lang": "js",
      "x-forwarded-for": "1.2.3.4",
      traceparent: "00-1-2-01",
      "x-request-id": "mine-1",
      "x-session-id": "s",
      host: "evil.example",
    },
  });
  expect(await response.json()).toMatchObject({ choices: [{ message: { content: "hello" } }] });
  expect(response.headers.get("x-request-id")).toBe("mine-1");
  expect(response.headers.get("x-llmnode-attempts")).toBe("1");
  expect(response.headers.get("x-llmnode-worker")).toStartWith("fake-worker");
  const [seen] = engine.seen;
  expect([seen?.method, seen?.path, seen?.body]).toEqual(["POST", `${CHAT}?trace=1`, body]);
  const header = (name: string) => seen?.headers.get(name) ?? null;
  expect(["authorization", "cookie", "x-stainless-lang", "x-forwarded-for"].map(header)).toEqual([
    null,
    null,
    null,
    null,
  ]);
  expect([header("traceparent"), header("x-session-id"), header("x-request-id")]).toEqual([
    "00-1-2-01",
    "s",
    "mine-1",
  ]);
  expect([header("content-type"), header("accept-encoding")]).toEqual([
    "application/json",
    "identity",
  ]);
  expect(header("host")).toBe(`127.0.0.1:${engine.port}`);
});

test("an unsound request id is replaced, and every answer has one", async () => {
  await using head = await startTestHead(FAST);
  for (const path of ["/v1/models", "/nowhere", "/health/live"]) {
    const response = await fetch(`${head.url}${path}`, { headers: { "x-request-id": "a b" } });
    expect(response.headers.get("x-request-id")).toMatch(/^req-[0-9a-f-]{36}$/);
  }
});

test("the engine's own key goes to the engine, the client's does not", async () => {
  await using engine = startEngine(() => chatAnswer("hello"));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  worker.report({ apiKey: "engine-key", port: engine.port });
  await head.ready("m");
  await head.post(CHAT, ask(), { headers: { authorization: "Bearer client-key" } });
  expect(engine.seen[0]?.headers.get("authorization")).toBe("Bearer engine-key");
  expect(JSON.stringify(await head.status())).not.toContain("engine-key");
  expect(head.lines.join("")).not.toContain("engine-key");
});

test("the Host that an engine insists on goes to it, whatever the client named", async () => {
  await using engine = startEngine(() => chatAnswer("hello"));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  worker.report({ hostHeader: "127.0.0.1:11434", port: engine.port });
  await head.ready("m");
  await head.post(CHAT, ask(), { headers: { host: "models.example.org" } });
  expect(engine.seen[0]?.headers.get("host")).toBe("127.0.0.1:11434");
  worker.report({ hostHeader: "a\r\nx-evil: 1", port: engine.port });
  // One that would break out of its header is none.
  await waitFor(async () => {
    await head.post(CHAT, ask());
    return engine.seen.at(-1)?.headers.get("host") === `127.0.0.1:${engine.port}`;
  });
  expect(engine.seen.some(({ headers }) => headers.has("x-evil"))).toBe(false);
});

test("a stream passes untouched, and no chunk waits for the next", async () => {
  const chunks = [
    'data: {"a":1}\n\n',
    ": ping\n\n",
    "data: h\u00e9",
    "llo\r\n\r\nda",
    "ta: [DONE]\n\n",
  ];
  const gates = chunks.map(() => Promise.withResolvers<void>());
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        for (const [i, chunk] of chunks.entries()) {
          await gates[i]?.promise;
          yield chunk;
        }
      })(),
    ),
  );
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  gates[0]?.resolve();
  const asking = { stream: true, stream_options: { include_usage: true } };
  // A stream that may go on elsewhere passes whole frames only.
  const headers = { "x-llmnode-resume": "off" };
  const response = await head.post(CHAT, ask(asking), { headers });
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(response.headers.get("cache-control")).toBe("no-cache");
  expect(response.headers.get("x-accel-buffering")).toBe("no");
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  for (const [i, chunk] of chunks.entries()) {
    // The next one is let go only after this one has come.
    const { value } = (await reader?.read()) ?? {};
    expect(decoder.decode(value)).toBe(chunk);
    gates[i + 1]?.resolve();
  }
  expect((await reader?.read())?.done).toBe(true);
  await idle(head);
});

test("the status waits for the engine's first data: a death before it is repaired elsewhere", async () => {
  await using dying = startRawEngine((socket) => {
    socket.write(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    setTimeout(() => socket.end(), 20);
  });
  await using good = startEngine(() => eventStream(["data: good\n\n", "data: [DONE]\n\n"]));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: dying.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: good.port, models: ["m"] });
  await head.ready("m", 2);
  const attempts = new Set<string | null>();
  for (let i = 0; i < 12; i += 1) {
    const response = await head.post(CHAT, ask({ stream: true }));
    expect([response.status, await response.text()]).toEqual([
      200,
      "data: good\n\ndata: [DONE]\n\n",
    ]);
    attempts.add(response.headers.get("x-llmnode-attempts"));
  }
  expect([...attempts].sort()).toEqual(["1", "2"]);
  await idle(head);
});

test.each([
  ["between events", "data: 1\n\n", "data: 1\n\n"],
  ["inside an event", "data: 1\n\ndata: 2", "data: 1\n\ndata: 2\n\n"],
  ["inside a line end", "data: 1\n\ndata: 2\n", "data: 1\n\ndata: 2\n\n"],
])("an engine that dies %s leaves one error event and no [DONE]", async (_, sent, relayed) => {
  let die = () => {};
  await using dying = startRawEngine((socket) => {
    socket.write(
      "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    socket.write(`${sent.length.toString(16)}\r\n${sent}\r\n`);
    die = () => socket.end();
  });
  await using head = await startTestHead(FAST);
  await using _w = fakeWorker(head, { port: dying.port, models: ["m"] });
  await head.ready("m");
  const response = await head.post(CHAT, ask({ stream: true }));
  // The answer has begun: what follows is a break in it.
  die();
  const text = await response.text();
  expect(response.status).toBe(200);
  expect(text.slice(0, relayed.length)).toBe(relayed);
  const event = JSON.parse(text.slice(relayed.length).replace(/^data: /, "")) as object;
  expect(event).toEqual({
    error: {
      message: "The engine died before its answer was complete.",
      type: "upstream_error",
      param: null,
      code: "upstream_broken",
    },
  });
  expect(dying.requests).toBe(1);
  await idle(head);
});

test("a plain answer that breaks off is a broken connection, never a short success", async () => {
  await using dying = startRawEngine((socket) => {
    socket.write(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    socket.write('5\r\n{"a":\r\n');
    setTimeout(() => socket.end(), 20);
  });
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: dying.port, models: ["m"] });
  await head.ready("m");
  const response = await head.post(CHAT, ask());
  await expect(response.text()).rejects.toThrow();
  await idle(head);
});

test("a whole answer that breaks off is asked for again elsewhere", async () => {
  await using dying = startRawEngine((socket) => {
    socket.write(
      "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    );
    setTimeout(() => socket.end(), 20);
  });
  await using good = startEngine(() => chatAnswer("good"));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: dying.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: good.port, models: ["m"] });
  await head.ready("m", 2);
  for (let i = 0; i < 8; i += 1) expect((await head.post(CHAT, ask())).status).toBe(200);
});

test("an engine's 500 is tried elsewhere once; when all say it, the client gets it", async () => {
  const broken = () => Response.json({ error: { message: "boom" } }, { status: 500 });
  await using bad = startEngine(broken);
  await using worse = startEngine(broken);
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: bad.port, models: ["m", "only-a"] });
  await using _b = fakeWorker(head, { port: worse.port, models: ["m"] });
  await head.ready("m", 2);
  const response = await head.post(CHAT, ask());
  expect([response.status, response.headers.get("x-llmnode-attempts")]).toEqual([500, "2"]);
  expect(await response.json()).toEqual({
    error: { message: "boom", type: "server_error", param: null, code: null },
  });
  expect([bad.seen.length, worse.seen.length]).toEqual([1, 1]);
  const single = await head.post(CHAT, ask({ model: "only-a" }));
  expect([single.status, single.headers.get("x-llmnode-attempts")]).toEqual([500, "1"]);
});

test("an engine's 4xx is the client's and is not repeated", async () => {
  await using engine = startEngine(() =>
    Response.json({ error: { message: "too long" } }, { status: 400 }),
  );
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: engine.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m", 2);
  const response = await head.post(CHAT, ask());
  const error = { message: "too long", type: "invalid_request_error", param: null, code: null };
  expect([response.status, await response.json()]).toEqual([400, { error }]);
  expect(engine.seen.length).toBe(1);
  await idle(head);
});

test("an engine that refuses its key is our fault, not the client's", async () => {
  await using engine = startEngine(() => Response.json({ error: "Unauthorized" }, { status: 401 }));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  expect(await errorOf(await head.post(CHAT, ask()))).toMatchObject({
    status: 502,
    code: "upstream_auth",
  });
});

test("a dead engine costs no request: refused connections go elsewhere and take it out", async () => {
  const dead = startEngine(() => chatAnswer("dead"));
  await using good = startEngine(() => chatAnswer("good"));
  await using head = await startTestHead(FAST);
  await using a = fakeWorker(head, { port: dead.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: good.port, models: ["m"] });
  await head.ready("m", 2);
  dead.kill();
  for (let i = 0; i < 20; i += 1) expect((await head.post(CHAT, ask())).status).toBe(200);
  await head.ready("m", 1);
  const row = (await head.status()).workers.find(({ id }) => id === a.id);
  expect(row?.engines[0]?.replicas[0]?.state).toBe("unreachable");
  expect(row?.engines[0]?.reason).toContain("connection refused");
});

test("when nothing can be reached the client is told so", async () => {
  const dead = startEngine(() => chatAnswer("dead"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: dead.port, models: ["m"] });
  await head.ready("m");
  dead.kill();
  const first = await errorOf(await head.post(CHAT, ask()));
  expect(first).toMatchObject({ status: 502, code: "upstream_unreachable" });
  const second = await head.post(CHAT, ask());
  expect(await errorOf(second)).toMatchObject({ status: 503, code: "no_ready_replica" });
  expect(second.headers.get("retry-after")).toBe("1");
});

test("an engine that closes idle connections just when they are reused costs no request", async () => {
  const body = "{}";
  const answer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  // Each connection answers once and breaks on its second request.
  await using engine = startRawEngine((socket, _, count) => {
    if (count === 1) socket.write(answer);
    else socket.reset();
  });
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  for (let i = 0; i < 50; i += 1) expect((await head.post(CHAT, ask())).status).toBe(200);
});
