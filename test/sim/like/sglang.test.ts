import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chat, events, metric, MODEL, post, quickSim, until, type TestSim } from "../harness.ts";

let sim: TestSim;
beforeAll(async () => {
  sim = await quickSim({ like: "sglang", healthTimeMs: 0 });
});
afterAll(() => sim.stop());

const get = async (path: string): Promise<unknown> => (await fetch(sim.url + path)).json();

test("models, one and all, and what it tells about itself", async () => {
  const card = {
    id: MODEL,
    object: "model",
    created: expect.any(Number),
    owned_by: "sglang",
    root: MODEL,
    parent: null,
    max_model_len: 32_768,
  };
  expect(await get("/v1/models")).toEqual({ object: "list", data: [card] });
  expect(await get(`/v1/models/${MODEL}`)).toEqual(card);
  expect(await get(`/v1/models/${encodeURIComponent(MODEL)}`)).toEqual(card);
  for (const id of ["other", "%zz"]) {
    expect((await fetch(`${sim.url}/v1/models/${id}`)).status).toBe(404);
  }
  expect(await get("/model_info")).toMatchObject({ model_path: MODEL, is_generation: true });
  expect(await get("/server_info")).toMatchObject({ context_length: 32_768 });
  expect(await (await fetch(sim.url)).text()).toBe("SGLang is running");
  expect((await fetch(sim.url)).headers.get("server")).toBe("uvicorn");
});

test("its lines: where it listens, then that it is fired up", () => {
  expect(sim.lines.slice(-2)).toEqual([
    `llmnode sim: Uvicorn running on http://127.0.0.1:${sim.port} (Press CTRL+C to quit) (simulated)`,
    "The server is fired up and ready to roll!",
  ]);
});

test("a healthy health check takes its time", async () => {
  await using slow = await quickSim({ like: "sglang", healthTimeMs: 150 });
  const began = performance.now();
  expect((await fetch(`${slow.url}/health_generate`)).status).toBe(200);
  expect(performance.now() - began).toBeGreaterThan(140);
});

test("during the warm-up the port is open, the health check refuses, models are listed", async () => {
  const spot = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const { port } = spot;
  spot.stop(true);
  const url = `http://127.0.0.1:${port}`;
  const starting = quickSim({ like: "sglang", port, loadTimeMs: 1000, healthTimeMs: 0 });
  await until("the port opens", () =>
    fetch(`${url}/v1/models`).then(
      (one) => one.ok,
      () => false,
    ),
  );
  expect((await fetch(`${url}/health`)).status).toBe(503);
  await using up = await starting;
  expect((await fetch(`${up.url}/health`)).status).toBe(200);
});

test("a chat stream: null deltas, [DONE]", async () => {
  const text = await (await chat(sim, { stream: true, max_tokens: 1 })).text();
  const [first = "", token = "", last = "", done] = events(text);
  expect(JSON.parse(first).choices[0].delta).toEqual({
    role: "assistant",
    content: "",
    reasoning_content: null,
    tool_calls: null,
  });
  expect(JSON.parse(token).choices).toEqual([
    {
      index: 0,
      delta: { role: null, content: "[sim", reasoning_content: null, tool_calls: null },
      logprobs: null,
      finish_reason: null,
      matched_stop: null,
    },
  ]);
  expect(JSON.parse(token).usage).toBeNull();
  expect(JSON.parse(last).choices[0].finish_reason).toBe("length");
  expect(done).toBe("[DONE]");
});

test("errors are flat outside of streams, nested inside", async () => {
  const refused = await post(sim, "/v1/chat/completions", { messages: [] });
  expect([refused.status, await refused.json()]).toEqual([
    400,
    {
      object: "error",
      message: expect.stringContaining("1 validation error"),
      type: "Bad Request",
      param: "messages",
      code: 400,
    },
  ]);
  await using failing = await quickSim({ like: "sglang", errorInStreamTokens: 1 });
  const flat = {
    object: "error",
    message: "Internal server error (simulated)",
    type: "InternalServerError",
    param: null,
    code: 500,
  };
  const whole = await chat(failing);
  expect([whole.status, await whole.json()]).toEqual([500, flat]);
  const stream = events(await (await chat(failing, { stream: true })).text());
  expect(JSON.parse(stream.at(-2) ?? "")).toEqual({ error: flat });
  expect(stream.at(-1)).toBe("[DONE]");
});

describe("/generate", () => {
  const body = { text: "Once", sampling_params: { max_new_tokens: 2 } };
  const state = (text: string, tokens: number, reason: object | null) => ({
    text,
    output_ids: [],
    meta_info: {
      id: expect.any(String),
      finish_reason: reason,
      prompt_tokens: 1,
      weight_version: "default",
      completion_tokens: tokens,
      cached_tokens: 0,
    },
  });
  const end = { type: "length", length: 2 };

  test("whole, and several at once", async () => {
    const answer = await post(sim, "/generate", body);
    expect(await answer.json()).toEqual(state("[simulat", 2, end));
    const many = await post(sim, "/generate", { ...body, text: ["Once", "Twic"] });
    expect(await many.json()).toMatchObject([
      { index: 0, meta_info: { completion_tokens: 2 } },
      { index: 1, meta_info: { completion_tokens: 2 } },
    ]);
  });

  test("a stream that says all the text each time, then [DONE]", async () => {
    const text = await (await post(sim, "/generate", { ...body, stream: true })).text();
    const all = events(text);
    expect(all.slice(0, -1).map((event): unknown => JSON.parse(event))).toEqual([
      state("[sim", 1, null),
      state("[simulat", 2, null),
      state("[simulat", 2, end),
    ]);
    expect(all.at(-1)).toBe("[DONE]");
  });

  test("refusals and failures have an inner message only", async () => {
    const refused = await post(sim, "/generate", {});
    expect([refused.status, await refused.json()]).toEqual([
      400,
      { error: { message: expect.any(String) } },
    ]);
  });
});

test("load as JSON and as metrics", async () => {
  await using busy = await quickSim({ like: "sglang", itlMs: 50 });
  const leave = new AbortController();
  const body = { messages: [{ role: "user", content: "x" }], stream: true };
  const asked = post(busy, "/v1/chat/completions", body, { signal: leave.signal });
  const running = () => metric(busy, "sglang:num_running_reqs");
  await until("one runs", async () => (await running()) === 1);
  expect(await (await fetch(`${busy.url}/v1/loads`)).json()).toMatchObject({
    loads: [{ dp_rank: 0, num_running_reqs: 1, num_waiting_reqs: 0 }],
  });
  leave.abort();
  await asked.catch(() => "left");
  await until("none runs", async () => (await running()) === 0);
  expect(await metric(busy, "sglang:num_aborted_requests_total")).toBe(1);
});

test("tokenize, detokenize, rerank and Anthropic's messages", async () => {
  const tokens: { tokens: number[]; count: number } = JSON.parse(
    await (await post(sim, "/tokenize", { prompt: "hello you" })).text(),
  );
  expect(tokens.count).toBe(3);
  const text = await post(sim, "/detokenize", { tokens: tokens.tokens });
  expect(await text.json()).toEqual({ text: "hello you" });
  expect((await post(sim, "/v1/rerank", { query: "a", documents: ["b"] })).status).toBe(200);
  const said = await post(sim, "/v1/messages", {
    max_tokens: 3,
    messages: [{ role: "user", content: "hi" }],
  });
  expect(await said.json()).toMatchObject({ content: [{ text: "[simulated] " }] });
});
