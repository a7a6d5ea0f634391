import { expect, test } from "bun:test";
import os from "node:os";
import { isNearby } from "../../../src/head/access/client-address.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({ model: "m", messages: [], ...extra });

const inFlight = async (head: TestHead) =>
  (await head.status()).models.reduce((sum, model) => sum + model.in_flight, 0);

type ErrorJson = {
  error: { message: string; type: string; param: string | null; code: string | null };
};

test.each([
  ["before the engine answers", false, async () => chatAnswer((await forever()) ?? "")],
  ["before the first event", true, () => eventStream(stuckAfter([]))],
  ["in the middle of a stream", true, () => eventStream(stuckAfter(["data: 1\n\n"]))],
])("a client that leaves %s ends the engine's work", async (_, stream, answer) => {
  await using engine = startEngine(answer);
  await using head = await startTestHead(FAST);
  await using _w = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const client = new AbortController();
  const request = head.post(CHAT, ask({ stream }), { signal: client.signal });
  const outcome = request
    .then((response) => response.text())
    .then(
      () => "ended",
      () => "aborted",
    );
  await waitFor(async () => engine.seen.length === 1 && (await inFlight(head)) === 1);
  if (stream) await Bun.sleep(20);
  client.abort();
  expect(await outcome).toBe("aborted");
  await waitFor(() => engine.aborted === 1, { what: "the engine to see the cancel" });
  await waitFor(async () => (await inFlight(head)) === 0);
  // It was nobody's fault: the replica is still there, and the next request is answered by it.
  expect((await head.status()).models[0]?.ready).toBe(1);
});

test("100 clients that leave at any moment leave nothing behind", async () => {
  await using engine = startEngine(() => eventStream(slowly()));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  await Promise.all(
    Array.from({ length: 100 }, async (_, i) => {
      const client = new AbortController();
      const request = head.post(CHAT, ask({ stream: true }), { signal: client.signal });
      const text = request.then((response) => response.text()).catch(() => null);
      setTimeout(() => client.abort(), i);
      await text;
    }),
  );
  await waitFor(async () => (await inFlight(head)) === 0);
  await waitFor(() => engine.active === 0 || engine.aborted > 0);
});

test.each([
  ["no JSON", "{", null],
  ["an array", "[]", null],
  ["no model", "{}", "model"],
  ["an empty model", '{"model":""}', "model"],
  ["a model that is a number", '{"model":7}', "model"],
  ["a model of 513 characters", `{"model":"${"x".repeat(513)}"}`, "model"],
  ["an empty body", "", null],
])("%s is a 400 that names the field", async (_, body, param) => {
  await using head = await startTestHead(FAST);
  const response = await head.post(CHAT, body);
  const { error } = (await response.json()) as ErrorJson;
  expect([response.status, error.type, error.param, error.code]).toEqual([
    400,
    "invalid_request_error",
    param,
    null,
  ]);
});

test("invalid UTF-8 is a 400", async () => {
  await using head = await startTestHead(FAST);
  const body = Buffer.concat([
    Buffer.from('{"model":"'),
    Buffer.from([0xff, 0xfe]),
    Buffer.from('"}'),
  ]);
  const response = await fetch(`${head.url}${CHAT}`, { method: "POST", body });
  expect(response.status).toBe(400);
});

test("bodies over the limit are refused by length and by count, one byte under passes", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead({ ...FAST, maxBodyBytes: 10_000 });
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const sized = (bytes: number) => {
    const rest = '{"model":"m","x":""}';
    return rest.replace('""', `"${"y".repeat(bytes - rest.length)}"`);
  };
  const chunked = (text: string) =>
    fetch(`${head.url}${CHAT}`, {
      method: "POST",
      body: (async function* () {
        for (let at = 0; at < text.length; at += 1000) yield Buffer.from(text.slice(at, at + 1000));
      })(),
    });
  expect((await head.post(CHAT, sized(10_000))).status).toBe(200);
  expect((await chunked(sized(10_000))).status).toBe(200);
  for (const response of [await head.post(CHAT, sized(10_001)), await chunked(sized(10_001))]) {
    const { error } = (await response.json()) as ErrorJson;
    expect([response.status, error.code]).toEqual([413, "request_too_large"]);
  }
});

test("bodies that would not fit into memory together are refused, and the room comes back", async () => {
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(async () => {
    await gate.promise;
    return chatAnswer("ok");
  });
  await using head = await startTestHead({ ...FAST, maxHeldBytes: 1500 });
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const body = ask({ x: "y".repeat(800) });
  const first = head.post(CHAT, body);
  await waitFor(() => engine.seen.length === 1);
  const second = await head.post(CHAT, body);
  expect([second.status, ((await second.json()) as ErrorJson).error.code]).toEqual([
    503,
    "overloaded",
  ]);
  gate.resolve();
  expect((await first).status).toBe(200);
  expect((await head.post(CHAT, body)).status).toBe(200);
});

test("unknown models are 404, but waited for while the head has just started", async () => {
  await using settled = await startTestHead(FAST);
  const missing = await settled.post(CHAT, ask());
  expect([missing.status, ((await missing.json()) as ErrorJson).error.code]).toEqual([
    404,
    "model_not_found",
  ]);
  await using fresh = await startTestHead({ cluster: { queueTimeoutMs: 100 } });
  const early = await fresh.post(CHAT, ask());
  expect([early.status, early.headers.get("retry-after")]).toEqual([503, "1"]);
});

test("unknown paths and methods are told in OpenAI's form", async () => {
  await using head = await startTestHead(FAST);
  const cases: [string, string, number, string | null][] = [
    ["GET", "/nowhere", 404, null],
    ["POST", "/v1/load_lora_adapter", 404, null],
    ["GET", CHAT, 405, "POST"],
    ["DELETE", "/v1/models", 405, "GET, HEAD"],
    ["POST", "/", 405, "GET, HEAD"],
    ["DELETE", "/api/v1/aliases", 405, "GET, POST"],
    ["HEAD", "/api/v1/watch", 405, "GET"],
    ["GET", "/api/v1/watch/x", 405, "POST"],
    ["GET", "/api/v1/watching", 404, null],
    ["OPTIONS", CHAT, 405, "POST"],
    ["HEAD", "/v1/models", 200, null],
    ["HEAD", "/health/live", 200, null],
  ];
  for (const [method, path, status, allow] of cases) {
    const response = await fetch(`${head.url}${path}`, { method });
    expect([method, path, response.status, response.headers.get("allow")]).toEqual([
      method,
      path,
      status,
      allow,
    ]);
    if (status >= 400 && method !== "HEAD") {
      expect(((await response.json()) as ErrorJson).error.code).toBe("unknown_url");
    }
  }
});

test("models are listed once, with what the engines say, and found by names with slashes", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST);
  await using a = fakeWorker(head, { port: engine.port, models: ["Qwen/Qwen3-8B"] });
  await using _b = fakeWorker(head, { port: engine.port, models: ["Qwen/Qwen3-8B", "a"] });
  await head.ready("Qwen/Qwen3-8B", 2);
  const extra = { created: 7, owned_by: "vllm", root: "/models/base" };
  const card = { id: "base", parent: "", maxModelLen: 40960, card: JSON.stringify(extra) };
  const lora = { id: "lora", parent: "base", card: "no json" };
  a.send({
    message: "models",
    models: { engine: "1", run: "", revision: 99, models: [card, lora], more: false },
  });
  await head.ready("lora");
  const list = (await (await fetch(`${head.url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(list.data.map(({ id }) => id)).toEqual(["Qwen/Qwen3-8B", "a", "base", "lora"]);
  expect(list.data).toContainEqual({
    id: "base",
    object: "model",
    created: 7,
    owned_by: "vllm",
    root: "/models/base",
    max_model_len: 40960,
  } as never);
  for (const path of ["Qwen/Qwen3-8B", "Qwen%2FQwen3-8B"]) {
    const response = await fetch(`${head.url}/v1/models/${path}`);
    expect(((await response.json()) as { id: string }).id).toBe("Qwen/Qwen3-8B");
  }
  const statuses = ["/v1/models/none", "/v1/models/%E0%A4%A"].map(
    async (path) => (await fetch(`${head.url}${path}`)).status,
  );
  expect(await Promise.all(statuses)).toEqual([404, 400]);
});

test("a head that stops answers new requests 503 and lets running streams end", async () => {
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await gate.promise;
        yield "data: [DONE]\n\n";
      })(),
    ),
  );
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const running = await head.post(CHAT, ask({ stream: true }));
  const stopping = head.head.stop();
  const refused = await head.post(CHAT, ask());
  expect([refused.status, ((await refused.json()) as ErrorJson).error.code]).toEqual([
    503,
    "shutting_down",
  ]);
  expect((await fetch(`${head.url}/health/ready`)).status).toBe(503);
  expect((await fetch(`${head.url}/health/live`)).status).toBe(200);
  gate.resolve();
  expect(await running.text()).toBe("data: 1\n\ndata: [DONE]\n\n");
  await stopping;
  await expect(fetch(`${head.url}/health/live`)).rejects.toThrow();
});

test("a head that is forced to stop ends streams with an error event", async () => {
  await using engine = startEngine(() => eventStream(stuckAfter(["data: 1\n\n"])));
  await using head = await startTestHead({ ...FAST, stopTimeoutMs: 100 });
  await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const running = await head.post(CHAT, ask({ stream: true }));
  await head.head.stop();
  const text = await running.text();
  expect(text).toStartWith('data: 1\n\ndata: {"error":');
  expect(text).not.toContain("[DONE]");
});

const outside = Object.values(os.networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ internal, family }) => !internal && family === "IPv4")?.address;

test.if(outside !== undefined)(
  "status is for this machine only; inference is for all",
  async () => {
    const { startHead } = await import("../../../src/head/head.ts");
    const { memoryLog } = await import("../../helpers/cluster.ts");
    using dir = tempDir();
    await using head = await startHead({
      listen: { host: "0.0.0.0", port: 0 },
      sessionListen: { host: "127.0.0.1", port: 0 },
      insecure: false,
      dataDir: dir.path,
      version: "0",
      log: memoryLog().log,
    });
    const port = new URL(head.url).port;
    const from = (address: string | undefined, path: string) =>
      fetch(`http://${address}:${port}${path}`);
    expect((await from("127.0.0.1", "/api/v1/status")).status).toBe(200);
    const refused = await from(outside, "/api/v1/status");
    expect([refused.status, ((await refused.json()) as ErrorJson).error.code]).toEqual([
      403,
      "forbidden",
    ]);
    // A machine in the open has no key to show yet.
    const served = isNearby(outside ?? "") ? 200 : 401;
    expect((await from(outside, "/v1/models")).status).toBe(served);
  },
);

function forever(): Promise<string | null> {
  return new Promise(() => {});
}

async function* stuckAfter(chunks: string[]): AsyncGenerator<string> {
  yield* chunks;
  await forever();
}

async function* slowly(): AsyncGenerator<string> {
  for (let i = 0; ; i += 1) {
    yield `data: ${i}\n\n`;
    await Bun.sleep(5);
  }
}
