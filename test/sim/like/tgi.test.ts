import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chat, events, metric, MODEL, post, quickSim, rawPost, type TestSim } from "../harness.ts";

let sim: TestSim;
beforeAll(async () => {
  sim = await quickSim({ like: "tgi" });
});
afterAll(() => sim.stop());

const get = async (path: string): Promise<unknown> => (await fetch(sim.url + path)).json();
const short = { inputs: "Once", parameters: { max_new_tokens: 2 } };

test("its lines, models, info and health", async () => {
  expect(sim.lines.slice(-2)).toEqual([
    `llmnode sim: listening on ${sim.url} (simulated)`,
    "Connected",
  ]);
  expect(await get("/v1/models")).toEqual({
    object: "list",
    data: [{ id: MODEL, object: "model", created: 0, owned_by: MODEL }],
  });
  expect(await get("/info")).toMatchObject({
    model_id: MODEL,
    max_input_tokens: 32_767,
    max_total_tokens: 32_768,
    max_concurrent_requests: 128,
    router: "text-generation-router",
  });
  for (const path of ["/health", "/ping", "/"]) {
    expect((await fetch(sim.url + path)).status).toBe(200);
  }
});

describe("its own routes", () => {
  test("/generate, with details and with the prompt if asked", async () => {
    const whole = await post(sim, "/generate", short);
    expect(await whole.json()).toEqual({ generated_text: "[simulat" });
    const parameters = { max_new_tokens: 1, details: true, return_full_text: true };
    const told = await post(sim, "/generate", { inputs: "Once", parameters });
    expect(await told.json()).toEqual({
      generated_text: "Once[sim",
      details: {
        finish_reason: "length",
        generated_tokens: 1,
        seed: null,
        prefill: [],
        tokens: [{ id: expect.any(Number), text: "[sim", logprob: -0.5, special: false }],
      },
    });
  });

  test("/generate_stream: no [DONE], the last event tells all the text", async () => {
    const response = await post(sim, "/generate_stream", short);
    expect(response.headers.get("content-type")).toStartWith("text/event-stream");
    const event = (index: number, text: string) => ({
      index,
      token: { id: expect.any(Number), text, logprob: -0.5, special: false },
    });
    expect(events(await response.text()).map((one): unknown => JSON.parse(one))).toEqual([
      { ...event(1, "[sim"), generated_text: null, details: null },
      {
        ...event(2, "ulat"),
        generated_text: "[simulat",
        details: { finish_reason: "length", generated_tokens: 2, seed: null, input_length: 1 },
      },
    ]);
  });

  test("/ answers in a list, or as a stream", async () => {
    expect(await (await post(sim, "/", short)).json()).toEqual([{ generated_text: "[simulat" }]);
    const stream = await post(sim, "/", { ...short, stream: true });
    expect(events(await stream.text())).toHaveLength(2);
  });

  test("an answer that ends by itself", async () => {
    const answer = await post(sim, "/generate", { inputs: "x", parameters: { details: true } });
    expect(await answer.json()).toMatchObject({
      details: { finish_reason: "eos_token", generated_tokens: 64 },
    });
  });

  test("tokens with their places", async () => {
    const tokens = await (await post(sim, "/tokenize", { inputs: "hello" })).json();
    expect(tokens).toEqual([
      { id: expect.any(Number), text: "hell", start: 0, stop: 4 },
      { id: expect.any(Number), text: "o", start: 4, stop: 5 },
    ]);
    const messages = [{ role: "user", content: "hi" }];
    expect(await (await post(sim, "/chat_tokenize", { messages })).json()).toMatchObject({
      templated_text: "user: hi\nassistant: ",
    });
  });
});

test("a chat stream: an empty id, the role in each delta, [DONE]", async () => {
  const text = await (await chat(sim, { stream: true, max_tokens: 1, model: "tgi" })).text();
  const [token = "", last = "", done] = events(text);
  expect(JSON.parse(token)).toEqual({
    object: "chat.completion.chunk",
    id: "",
    created: expect.any(Number),
    model: "tgi",
    system_fingerprint: expect.any(String),
    choices: [
      {
        index: 0,
        delta: { role: "assistant", content: "[sim" },
        logprobs: null,
        finish_reason: null,
      },
    ],
    usage: null,
  });
  expect(JSON.parse(last).choices[0].finish_reason).toBe("length");
  expect(done).toBe("[DONE]");
});

test("errors: 422 and 424 with an error_type, axum's own without JSON", async () => {
  const long = await post(sim, "/generate", {
    inputs: "x",
    parameters: { max_new_tokens: 40_000 },
  });
  expect([long.status, await long.json()]).toEqual([
    422,
    { error: expect.stringContaining("maximum context length"), error_type: "validation" },
  ]);
  const statusOf = async (body: unknown, headers: Record<string, string> = {}) =>
    (await post(sim, "/generate", body, { headers })).status;
  expect(await statusOf("{")).toBe(400);
  expect(await statusOf({})).toBe(422);
  expect(await statusOf(short, { "content-type": "text/plain" })).toBe(415);
  const missing = await fetch(`${sim.url}/nothing`);
  expect([missing.status, await missing.text()]).toEqual([404, ""]);
  const wrong = await fetch(`${sim.url}/generate`);
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);

  await using failing = await quickSim({ like: "tgi", errorInStreamTokens: 1 });
  const failure = {
    error: "Request failed during generation: Internal server error (simulated)",
    error_type: "generation",
  };
  const whole = await post(failing, "/generate", short);
  expect([whole.status, await whole.json()]).toEqual([424, failure]);
  const ends = async (response: Promise<Response>) => events(await (await response).text());
  const native = await ends(post(failing, "/generate_stream", short));
  expect(JSON.parse(native.at(-1) ?? "")).toEqual(failure);
  const openAi = await ends(chat(failing, { stream: true }));
  expect([JSON.parse(openAi.at(-2) ?? ""), openAi.at(-1)]).toEqual([failure, "[DONE]"]);
});

test("comments in a silent stream, none in one that speaks", async () => {
  await using slow = await quickSim({ like: "tgi", keepAliveMs: 30, silenceMs: 200 });
  const client = await rawPost(slow, "/generate_stream", short);
  await Bun.sleep(400);
  client.close();
  const comments = client.text().match(/^:$/gm)?.length ?? 0;
  expect(comments).toBeGreaterThan(2);
  await using quick = await quickSim({ like: "tgi", keepAliveMs: 10_000 });
  expect(await (await post(quick, "/generate_stream", short)).text()).not.toContain("\n:");
});

test("metrics", async () => {
  await using own = await quickSim({ like: "tgi" });
  await (await post(own, "/generate", short)).text();
  expect(await metric(own, "tgi_request_success")).toBe(1);
  expect(await metric(own, "tgi_queue_size")).toBe(0);
  expect(await metric(own, "tgi_request_generated_tokens_sum")).toBe(2);
  expect(await metric(own, "tgi_request_generated_tokens_bucket", 'le="+Inf"')).toBe(1);
});
