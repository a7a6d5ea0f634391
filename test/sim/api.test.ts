import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { answerOf, chat, metric, MODEL, post, quickSim, type TestSim } from "./harness.ts";

let sim: TestSim;
beforeAll(async () => {
  sim = await quickSim({ models: [MODEL, "second"], maxModelLen: 1000 });
});
afterAll(() => sim.stop());

const get = (path: string, method = "GET") => fetch(sim.url + path, { method });

/** Status and body of an answer, as one thing to compare. */
async function told(response: Promise<Response>): Promise<{ status: number; body: unknown }> {
  const { status } = await response;
  return { status, body: await (await response).json() };
}

const refused = (status: number, type: string, message: unknown, param: string | null = null) => ({
  status,
  body: { error: { message, type, param, code: status } },
});

describe("what is not generation", () => {
  test("models", async () => {
    const { body } = await told(get("/v1/models"));
    expect(body).toMatchObject({
      object: "list",
      data: [
        {
          id: MODEL,
          object: "model",
          owned_by: "llmnode-sim",
          root: MODEL,
          parent: null,
          max_model_len: 1000,
          permission: [{ object: "model_permission", allow_sampling: true }],
        },
        { id: "second" },
      ],
    });
  });

  test("health, ping and version", async () => {
    const health = await get("/health");
    expect([health.status, await health.text()]).toEqual([200, ""]);
    expect((await get("/ping", "POST")).status).toBe(200);
    expect(await told(get("/version"))).toEqual({
      status: 200,
      body: { version: expect.stringMatching(/^0\.1\d\.\d+\+llmnode\.sim$/) },
    });
  });

  test("unknown paths and methods", async () => {
    expect(await told(get("/v2/nothing"))).toEqual({ status: 404, body: { detail: "Not Found" } });
    expect((await get("/__proto__")).status).toBe(404);
    const wrong = await get("/v1/chat/completions", "DELETE");
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
    expect((await get("/v1/models", "POST")).status).toBe(405);
  });

  test("tokenize and detokenize", async () => {
    const answer = await told(
      post(sim, "/tokenize", { model: MODEL, prompt: "hello you", return_token_strs: true }),
    );
    expect(answer.body).toEqual({
      count: 3,
      max_model_len: 1000,
      tokens: [expect.any(Number), expect.any(Number), expect.any(Number)],
      token_strs: ["hell", "o yo", "u"],
    });
    const { tokens } = Object(answer.body);
    expect((await told(post(sim, "/detokenize", { tokens }))).body).toEqual({
      prompt: "hello you",
    });
    expect((await post(sim, "/detokenize", { tokens: ["x"] })).status).toBe(400);
    expect((await post(sim, "/tokenize", {})).status).toBe(400);
    expect((await post(sim, "/tokenize", { model: "no", prompt: "x" })).status).toBe(404);
  });

  test("the tokens of a chat begin the tokens of the chat with an answer begun", async () => {
    const messages = [{ role: "user", content: "a question of 29 bytes, here" }];
    const ids = async (body: unknown): Promise<unknown> =>
      Object((await told(post(sim, "/tokenize", body))).body).tokens;
    const asked = await ids({ messages });
    const begun = await ids({
      messages: [...messages, { role: "assistant", content: "[simulated] x" }],
      continue_final_message: true,
      add_generation_prompt: false,
    });
    if (!Array.isArray(asked) || !Array.isArray(begun)) throw new Error("no lists of tokens");
    expect(begun.slice(0, asked.length)).toEqual(asked);
    expect(begun).toHaveLength(asked.length + 4);
    expect((await answerOf(chat(sim, { messages }))).usage.prompt_tokens).toBe(asked.length);
  });
});

describe("answers", () => {
  test("a chat", async () => {
    const { status, body } = await told(
      chat(sim, { max_completion_tokens: 3, max_tokens: 9, temperature: 0.2, stop: ["x"] }),
    );
    expect(status).toBe(200);
    expect(body).toEqual({
      id: expect.stringMatching(/^chatcmpl-[0-9a-f]{32}$/),
      object: "chat.completion",
      created: expect.any(Number),
      model: MODEL,
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: "[simulated] ",
            refusal: null,
            annotations: null,
            audio: null,
            function_call: null,
            reasoning: null,
          },
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
          token_ids: null,
        },
      ],
      service_tier: null,
      system_fingerprint: null,
      usage: {
        prompt_tokens: 6,
        total_tokens: 9,
        completion_tokens: 3,
        prompt_tokens_details: null,
      },
      prompt_logprobs: null,
      prompt_token_ids: null,
      kv_transfer_params: null,
    });
  });

  test("the first model answers where none is named, an id can be given", async () => {
    const response = await post(
      sim,
      "/v1/chat/completions",
      { messages: [{ role: "user", content: "x" }], max_tokens: 1 },
      { headers: { "x-request-id": "my-id" } },
    );
    expect(await response.json()).toMatchObject({ id: "chatcmpl-my-id", model: MODEL });
  });

  test("contents in parts, with an image as one short mark", async () => {
    const url = `data:image/png;base64,${"A".repeat(100_000)}`;
    const content = [
      { type: "text", text: "what is this?" },
      { type: "image_url", image_url: { url } },
    ];
    const answer = await answerOf(chat(sim, { messages: [{ role: "user", content }] }));
    expect(answer.usage.prompt_tokens).toBeLessThan(30);
  });

  test("completions of one or several prompts, as texts or tokens", async () => {
    const complete = (prompt: unknown) =>
      answerOf(post(sim, "/v1/completions", { model: MODEL, prompt }));
    const one = await complete("hello you");
    expect(one.usage).toMatchObject({ prompt_tokens: 3, completion_tokens: 16 });
    expect(one.reasons).toEqual(["length"]);
    const two = await complete(["hello you", "x"]);
    expect(two.texts[0]).toBe(one.texts[0] ?? "");
    expect(two.usage).toMatchObject({ prompt_tokens: 4, completion_tokens: 32 });
    const { tokens } = Object((await told(post(sim, "/tokenize", { prompt: "hello you" }))).body);
    expect(await complete(tokens)).toEqual(one);
    expect((await complete([tokens, tokens])).texts).toEqual([...one.texts, ...one.texts]);
  });

  test("embeddings in both encodings", async () => {
    const embed = async (fields: Record<string, unknown>) => {
      const { body } = await told(post(sim, "/v1/embeddings", { model: MODEL, ...fields }));
      return Object(body);
    };
    const floats = await embed({ input: ["one", "two"], dimensions: 8 });
    expect(floats.data).toHaveLength(2);
    expect(floats.data[1]).toMatchObject({ index: 1, object: "embedding" });
    expect(Math.hypot(...floats.data[0].embedding)).toBeCloseTo(1, 5);
    expect(floats.usage).toMatchObject({ prompt_tokens: 2, total_tokens: 2, completion_tokens: 0 });
    const coded = await embed({ input: "two", dimensions: 8, encoding_format: "base64" });
    const bytes = Buffer.from(coded.data[0].embedding, "base64");
    const values = Array.from({ length: 8 }, (_, i) => bytes.readFloatLE(i * 4));
    expect(values).toEqual(floats.data[1].embedding);
    expect((await embed({ input: [[1, 2, 3], [4]] })).usage.prompt_tokens).toBe(4);
    expect((await embed({ input: "x" })).data[0].embedding).toHaveLength(256);
    const many = await embed({ input: new Array(2048).fill("x"), dimensions: 2 });
    expect(many.data).toHaveLength(2048);
    expect((await embed({ input: new Array(2049).fill("x") })).error.param).toBe("input");
  });

  test("a body of 20 MB is read and its length refused", async () => {
    const messages = [{ role: "user", content: "x".repeat(20_000_000) }];
    const { status, body } = await told(chat(sim, { messages }));
    expect(status).toBe(400);
    expect(Object(body).error.message).toContain("your prompt contains 5000005 input tokens");
  });
});

describe("refusals in vLLM's words", () => {
  const cases: [string, Record<string, unknown>, ReturnType<typeof refused>][] = [
    [
      "an unknown model",
      { model: "gpt-9" },
      refused(404, "NotFoundError", "The model `gpt-9` does not exist.", "model"),
    ],
    [
      "a model that is no text",
      { model: 7 },
      refused(400, "Bad Request", expect.stringContaining("valid string"), "model"),
    ],
    [
      "no messages",
      { messages: undefined },
      refused(400, "Bad Request", expect.stringContaining("Field required"), "messages"),
    ],
    [
      "a message without role",
      { messages: [{}] },
      refused(400, "Bad Request", expect.stringContaining("Field required"), "messages.0.role"),
    ],
    [
      "zero tokens",
      { max_tokens: 0 },
      refused(400, "BadRequestError", "max_tokens must be at least 1, got 0.", "max_tokens"),
    ],
    [
      "half a choice",
      { n: 0.5 },
      refused(400, "Bad Request", expect.stringContaining("valid integer"), "n"),
    ],
    [
      "too many choices",
      { n: 5000 },
      refused(400, "BadRequestError", "n must be at most 1024, got 5000.", "n"),
    ],
    [
      "a stream that is no boolean",
      { stream: "yes" },
      refused(400, "Bad Request", expect.stringContaining("valid boolean"), "stream"),
    ],
    [
      "stream options without a stream",
      { stream_options: {} },
      refused(
        400,
        "BadRequestError",
        "Stream options can only be defined when `stream=True`.",
        "stream_options",
      ),
    ],
    [
      "more tokens than the model holds",
      { max_tokens: 995 },
      refused(
        400,
        "BadRequestError",
        "This model's maximum context length is 1000 tokens. However, you requested 995 output tokens and your prompt contains 6 input tokens, for a total of 1001 tokens. Please reduce the length of the input prompt or the number of requested output tokens.",
        "input_tokens",
      ),
    ],
  ];
  test.each(cases)("%s", async (_, fields, expected) => {
    expect(await told(chat(sim, fields))).toEqual(expected);
    if (fields["stream_options"]) return;
    expect(await told(chat(sim, { stream: true, ...fields }))).toEqual(expected);
  });

  test("broken JSON, no object, the wrong content type", async () => {
    for (const body of ["{", "", "[]", '"x"']) {
      expect(await told(post(sim, "/v1/chat/completions", body))).toMatchObject(
        refused(400, "Bad Request", expect.stringContaining("1 validation error")),
      );
    }
    const headers = { "content-type": "text/plain" };
    expect(await told(post(sim, "/v1/completions", "{}", { headers }))).toMatchObject(
      refused(400, "Bad Request", expect.stringContaining("Only 'application/json' is allowed")),
    );
  });

  test("completions without a prompt, embeddings without an input", async () => {
    expect((await post(sim, "/v1/completions", { model: MODEL })).status).toBe(400);
    expect((await post(sim, "/v1/completions", { prompt: [] })).status).toBe(400);
    expect((await post(sim, "/v1/completions", { prompt: [{}] })).status).toBe(400);
    expect((await post(sim, "/v1/embeddings", { model: MODEL })).status).toBe(400);
    expect((await post(sim, "/v1/embeddings", { input: "x", dimensions: 1e6 })).status).toBe(400);
    expect(
      (await post(sim, "/v1/embeddings", { input: "x", encoding_format: "int8" })).status,
    ).toBe(400);
  });
});

describe("metrics", () => {
  test("count what happened, model by model", async () => {
    const before = await metric(sim, "vllm:generation_tokens_total", "second");
    expect(before).toBe(0);
    await answerOf(chat(sim, { model: "second", max_tokens: 7, n: 2 }));
    await answerOf(chat(sim, { model: "second" }));
    const read = (name: string, label = `model_name="second"`) =>
      metric(sim, `vllm:${name}`, label);
    expect(await read("generation_tokens_total")).toBe(14 + 64);
    expect(await read("prompt_tokens_total")).toBe(12);
    expect(
      await read("request_success_total", 'model_name="second",finished_reason="length"'),
    ).toBe(1);
    expect(await read("request_success_total", 'model_name="second",finished_reason="stop"')).toBe(
      1,
    );
    expect(await read("num_requests_running")).toBe(0);
    expect(await read("kv_cache_usage_perc")).toBe(0);
    expect(await read("e2e_request_latency_seconds_count")).toBe(2);
    expect(await read("request_generation_tokens_sum")).toBe(78);
    expect(await read("request_generation_tokens_bucket", 'model_name="second",le="+Inf"')).toBe(2);
    expect(await read("request_generation_tokens_bucket", 'model_name="second",le="20"')).toBe(1);
  });

  test("are Prometheus text", async () => {
    const response = await get("/metrics");
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    for (const line of (await response.text()).trimEnd().split("\n")) {
      expect(line).toMatch(
        /^(# (HELP|TYPE) vllm:\w+ .+|vllm:\w+\{(\w+="[^"]*",?)+\} \d[\d.e+-]*)$/,
      );
    }
  });
});
