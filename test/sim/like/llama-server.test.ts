import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chat,
  events,
  metric,
  MODEL,
  post,
  quickSim,
  rawPost,
  until,
  type TestSim,
} from "../harness.ts";

let sim: TestSim;
beforeAll(async () => {
  sim = await quickSim({ like: "llama-server" });
});
afterAll(() => sim.stop());

const get = async (path: string): Promise<unknown> => (await fetch(sim.url + path)).json();
const timings = {
  cache_n: 0,
  prompt_n: expect.any(Number),
  prompt_ms: expect.any(Number),
  prompt_per_token_ms: expect.any(Number),
  prompt_per_second: expect.any(Number),
  predicted_n: expect.any(Number),
  predicted_ms: expect.any(Number),
  predicted_per_token_ms: expect.any(Number),
  predicted_per_second: expect.any(Number),
};

test("models in both manners, health, properties, slots", async () => {
  expect(await get("/v1/models")).toMatchObject({
    models: [{ name: MODEL, details: { format: "gguf" } }],
    object: "list",
    data: [{ id: MODEL, owned_by: "llamacpp", meta: { n_ctx: 32_768 } }],
  });
  const health = await fetch(`${sim.url}/health`);
  expect([health.status, health.headers.get("server"), await health.json()]).toEqual([
    200,
    "llama.cpp",
    { status: "ok" },
  ]);
  expect(await get("/props")).toMatchObject({ total_slots: 4, is_sleeping: false });
  expect(await get("/slots")).toEqual(
    [0, 1, 2, 3].map((id) => ({ id, n_ctx: 32_768, speculative: false, is_processing: false })),
  );
});

test("it binds first and answers 503 to everything while it loads", async () => {
  const spot = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = spot;
  spot.stop(true);
  const url = `http://127.0.0.1:${port}`;
  const starting = quickSim({ like: "llama-server", port, loadTimeMs: 400 });
  await until("the port opens", () =>
    fetch(url).then(
      () => true,
      () => false,
    ),
  );
  for (const path of ["/health", "/v1/models", "/nothing"]) {
    const answer = await fetch(url + path);
    expect([answer.status, await answer.json()]).toEqual([
      503,
      { error: { message: "Loading model", type: "unavailable_error", code: 503 } },
    ]);
  }
  await using up = await starting;
  expect((await fetch(`${up.url}/health`)).status).toBe(200);
  expect(up.lines).toContain(`llmnode sim: listening on ${up.url} (simulated)`);
});

test("a load that is broken off gives the port back", async () => {
  const stop = new AbortController();
  const spot = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = spot;
  spot.stop(true);
  const lost = quickSim({ like: "llama-server", port, loadTimeMs: 60_000 }, stop.signal);
  await until("the port opens", () =>
    fetch(`http://127.0.0.1:${port}`).then(
      () => true,
      () => false,
    ),
  );
  stop.abort(new Error("enough"));
  await expect(lost).rejects.toThrow("enough");
  await expect(fetch(`http://127.0.0.1:${port}`)).rejects.toThrow();
});

describe("/completion", () => {
  test("whole and as a stream without [DONE]", async () => {
    const body = { prompt: "Once", n_predict: 2 };
    const last = (content: string) => ({
      index: 0,
      content,
      tokens: [],
      id_slot: 0,
      stop: true,
      model: MODEL,
      tokens_predicted: 2,
      tokens_evaluated: 1,
      generation_settings: {},
      prompt: "Once",
      has_new_line: false,
      truncated: false,
      stop_type: "limit",
      stopping_word: "",
      tokens_cached: 0,
      timings,
    });
    expect(await (await post(sim, "/completion", body)).json()).toEqual(last("[simulat"));
    const text = await (await post(sim, "/completion", { ...body, stream: true })).text();
    const token = (content: string, count: number) => ({
      index: 0,
      content,
      tokens: [],
      stop: false,
      id_slot: -1,
      tokens_predicted: count,
      tokens_evaluated: 1,
    });
    expect(events(text).map((one): unknown => JSON.parse(one))).toEqual([
      token("[sim", 1),
      token("ulat", 2),
      last(""),
    ]);
  });
});

describe("chats", () => {
  test("a stream with its timings in the last frame, whichever it is", async () => {
    const plain = events(await (await chat(sim, { stream: true, max_tokens: 1 })).text());
    expect(plain.slice(0, -1).map((one) => JSON.parse(one).choices[0])).toEqual([
      { index: 0, finish_reason: null, delta: { role: "assistant", content: null } },
      { index: 0, finish_reason: null, delta: { content: "[sim" } },
      { index: 0, finish_reason: "length", delta: {} },
    ]);
    expect(JSON.parse(plain.at(-2) ?? "").timings).toEqual(timings);
    expect(plain.at(-1)).toBe("[DONE]");
    const stream_options = { include_usage: true };
    const counted = events(
      await (await chat(sim, { stream: true, max_tokens: 1, stream_options })).text(),
    );
    expect(JSON.parse(counted.at(-2) ?? "")).toMatchObject({
      choices: [],
      usage: { completion_tokens: 1 },
      timings,
    });
    expect(JSON.parse(counted.at(-3) ?? "")).not.toHaveProperty("timings");
  });

  test("a whole one has timings too", async () => {
    expect(await (await chat(sim, { max_tokens: 3 })).json()).toMatchObject({
      object: "chat.completion",
      choices: [{ message: { role: "assistant", content: "[simulated] " } }],
      timings: { predicted_n: 3 },
    });
  });

  test("comments in a silent stream", async () => {
    await using slow = await quickSim({ like: "llama-server", keepAliveMs: 30, ttftMs: 200 });
    const client = await rawPost(slow, "/v1/chat/completions", {
      messages: [{ role: "user", content: "x" }],
      stream: true,
    });
    await until("an answer", () => client.text().includes("[DONE]"));
    client.close();
    expect(client.text().indexOf(":\n\n")).toBeLessThan(client.text().indexOf("data:"));
  });
});

test("errors are nested with a type of their own; in a stream no [DONE] follows", async () => {
  const told = async (response: Promise<Response>) => [
    (await response).status,
    await (await response).json(),
  ];
  expect(await told(post(sim, "/v1/chat/completions", "{"))).toEqual([
    400,
    { error: { code: 400, message: expect.any(String), type: "invalid_request_error" } },
  ]);
  expect(await told(fetch(`${sim.url}/nothing`))).toEqual([
    404,
    { error: { code: 404, message: "File Not Found", type: "not_found_error" } },
  ]);
  expect(await told(chat(sim, { max_tokens: 40_000 }))).toMatchObject([
    400,
    { error: { type: "exceed_context_size_error" } },
  ]);
  await using failing = await quickSim({ like: "llama-server", errorInStreamTokens: 1 });
  const text = await (await chat(failing, { stream: true })).text();
  expect(text).toEndWith(
    'data: {"error":{"code":500,"message":"Internal server error (simulated)","type":"server_error"}}\n\n',
  );
});

test("tokenize, detokenize, embedding", async () => {
  const tokens: { tokens: number[] } = JSON.parse(
    await (await post(sim, "/tokenize", { content: "hello" })).text(),
  );
  expect(tokens.tokens).toHaveLength(2);
  expect(await (await post(sim, "/detokenize", tokens)).json()).toEqual({ content: "hello" });
  const pieces = await post(sim, "/tokenize", { content: "hello", with_pieces: true });
  expect(await pieces.json()).toMatchObject({ tokens: [{ piece: "hell" }, { piece: "o" }] });
  const vectors = await (await post(sim, "/embedding", { content: "x" })).json();
  expect(vectors).toEqual([{ index: 0, embedding: [expect.any(Array)] }]);
});

test("slots fill up, what is beyond them waits in the metrics", async () => {
  await using busy = await quickSim({ like: "llama-server", itlMs: 50 });
  const leave = new AbortController();
  const body = { prompt: "x", stream: true };
  const asked = Array.from({ length: 5 }, () =>
    post(busy, "/completion", body, { signal: leave.signal }),
  );
  await until("one waits", async () => (await metric(busy, "llamacpp:requests_deferred")) === 1);
  expect(await metric(busy, "llamacpp:requests_processing")).toBe(4);
  expect((await fetch(`${busy.url}/slots?fail_on_no_slot=1`)).status).toBe(503);
  leave.abort();
  await Promise.allSettled(asked);
  await until("none runs", async () => (await metric(busy, "llamacpp:requests_processing")) === 0);
});
