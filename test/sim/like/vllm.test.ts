import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import Anthropic, { NotFoundError } from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { chat, metric, MODEL, namedEvents, post, quickSim, type TestSim } from "../harness.ts";

let sim: TestSim;
let openai: OpenAI;
let anthropic: Anthropic;
beforeAll(async () => {
  sim = await quickSim({ adapters: [{ name: "fine", base: MODEL }], itlMs: 1 });
  openai = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: "none", maxRetries: 0 });
  anthropic = new Anthropic({ baseURL: sim.url, apiKey: "none", maxRetries: 0 });
});
afterAll(() => sim.stop());

const messages = [{ role: "user" as const, content: "hello" }];

describe("LoRA adapters", () => {
  test("are listed with their parent and answer under their name", async () => {
    const cards = await (await fetch(`${sim.url}/v1/models`)).json();
    expect(Object(cards).data).toMatchObject([
      { id: MODEL, parent: null, max_model_len: 32_768 },
      { id: "fine", parent: MODEL, max_model_len: null },
    ]);
    const say = async (model: string) =>
      (await openai.chat.completions.create({ model, messages })).choices[0]?.message.content;
    expect(await say("fine")).not.toBe((await say(MODEL)) ?? "");
    const body = { model: "fine", messages, max_tokens: 2 };
    expect(await (await post(sim, "/v1/chat/completions", body)).json()).toMatchObject({
      model: "fine",
    });
    expect(await metric(sim, "vllm:num_requests_running", MODEL)).toBe(0);
  });
});

describe("Anthropic's messages", () => {
  test("whole", async () => {
    const answer = await anthropic.messages.create({ model: MODEL, max_tokens: 3, messages });
    expect(answer).toMatchObject({
      id: expect.stringMatching(/^msg_/),
      type: "message",
      role: "assistant",
      content: [{ type: "text", text: "[simulated] " }],
      model: MODEL,
      stop_reason: "max_tokens",
      usage: { input_tokens: 6, output_tokens: 3 },
    });
    const ends = await anthropic.messages.create({ model: MODEL, max_tokens: 900, messages });
    expect([ends.stop_reason, ends.usage.output_tokens]).toEqual(["end_turn", 64]);
  });

  test("as a stream, by the official client", async () => {
    const options = { model: MODEL, max_tokens: 20, messages, system: "Be brief." };
    const whole = await anthropic.messages.create(options);
    const final = await anthropic.messages.stream(options).finalMessage();
    expect(final.content).toMatchObject(whole.content);
    expect(final.stop_reason).toBe("max_tokens");
    expect(final.usage.output_tokens).toBe(20);
  });

  test("event by event", async () => {
    const body = { model: MODEL, max_tokens: 1, messages, stream: true };
    const text = await (await post(sim, "/v1/messages", body)).text();
    const usage = { input_tokens: 6, output_tokens: 1 };
    expect(namedEvents(text)).toMatchObject([
      {
        name: "message_start",
        data: { type: "message_start", message: { content: [], stop_reason: null } },
      },
      {
        name: "content_block_start",
        data: { index: 0, content_block: { type: "text", text: "" } },
      },
      {
        name: "content_block_delta",
        data: { index: 0, delta: { type: "text_delta", text: "[sim" } },
      },
      { name: "content_block_stop", data: { index: 0 } },
      { name: "message_delta", data: { delta: { stop_reason: "max_tokens" }, usage } },
      { name: "message_stop", data: { type: "message_stop" } },
    ]);
  });

  test("counts tokens, refuses, and fails in its own envelope", async () => {
    expect(await anthropic.messages.countTokens({ model: MODEL, messages })).toEqual({
      input_tokens: 6,
    });
    const unknown = anthropic.messages.create({ model: "nope", max_tokens: 1, messages });
    const error = await unknown.then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(NotFoundError);
    const refused = await post(sim, "/v1/messages", { model: MODEL, messages });
    expect([refused.status, await refused.json()]).toEqual([
      400,
      { type: "error", error: { type: "Bad Request", message: "max_tokens: Field required" } },
    ]);
    await using failing = await quickSim({ errorInStreamTokens: 2 });
    const body = { max_tokens: 9, messages, stream: true };
    const text = await (await post(failing, "/v1/messages", body)).text();
    expect(namedEvents(text).at(-1)).toEqual({
      name: "error",
      data: {
        type: "error",
        error: { type: "InternalServerError", message: "Internal server error (simulated)" },
      },
    });
    await using endless = await quickSim({ noDone: true });
    const open = await (await post(endless, "/v1/messages", body)).text();
    expect(namedEvents(open).at(-1)?.name).toBe("message_delta");
  });
});

describe("OpenAI's responses", () => {
  test("whole and streamed, by the official client", async () => {
    const asked = { model: MODEL, input: "hello", instructions: "Be brief.", max_output_tokens: 9 };
    const whole = await openai.responses.create(asked);
    expect(whole.output_text).toStartWith("[simulated] ");
    expect(whole).toMatchObject({ status: "incomplete", usage: { output_tokens: 9 } });
    let text = "";
    const types: string[] = [];
    const numbers: number[] = [];
    for await (const event of await openai.responses.create({ ...asked, stream: true })) {
      if (event.type !== types.at(-1)) types.push(event.type);
      numbers.push(event.sequence_number);
      if (event.type === "response.output_text.delta") text += event.delta;
    }
    expect(text).toBe(whole.output_text);
    expect(types).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.incomplete",
    ]);
    expect(numbers).toEqual(numbers.map((_, i) => i));
  });

  test("items as input, an end of its own, no input at all", async () => {
    const input = [{ role: "user" as const, content: "hello" }];
    const answer = await openai.responses.create({ model: MODEL, input });
    expect([answer.status, answer.usage?.output_tokens]).toEqual(["completed", 64]);
    expect((await post(sim, "/v1/responses", { model: MODEL })).status).toBe(400);
  });
});

describe("tools, thoughts and log probabilities", () => {
  const tool = (name: string) => ({
    type: "function" as const,
    function: {
      name,
      parameters: {
        type: "object",
        properties: { city: { type: "string" }, days: { type: "integer" } },
      },
    },
  });
  const tools = [tool("weather"), tool("news")];
  const given = '{"city":"[simulated]","days":1}';

  test("parallel calls, the same whole and streamed", async () => {
    const asked = {
      model: MODEL,
      messages,
      tools,
      tool_choice: "required" as const,
      parallel_tool_calls: true,
    };
    const whole = await openai.chat.completions.create(asked);
    const [choice] = whole.choices;
    expect(choice?.finish_reason).toBe("tool_calls");
    const calls = choice?.message.tool_calls ?? [];
    expect(calls.map((call) => call.type === "function" && call.function)).toEqual([
      { name: "weather", arguments: given },
      { name: "news", arguments: given },
    ]);
    const built = ["", ""];
    const ids: string[] = [];
    let parts = 0;
    let reason: string | null = null;
    const options = { ...asked, stream: true as const, stream_options: { include_usage: true } };
    let tokens = 0;
    for await (const chunk of await openai.chat.completions.create(options)) {
      tokens = chunk.usage?.completion_tokens ?? tokens;
      reason = chunk.choices[0]?.finish_reason ?? reason;
      for (const call of chunk.choices[0]?.delta.tool_calls ?? []) {
        if (call.id) ids.push(call.id);
        built[call.index] += call.function?.arguments ?? "";
        parts += 1;
      }
    }
    expect([built, reason]).toEqual([[given, given], "tool_calls"]);
    expect(ids).toEqual(calls.map((call) => call.id));
    expect(parts).toBeGreaterThan(4);
    expect(tokens).toBe(whole.usage?.completion_tokens ?? 0);
  });

  test("one call, by name or because one is required; cut by max_tokens; no such tool", async () => {
    const ask = async (fields: Record<string, unknown>) =>
      Object(await (await chat(sim, { tools, ...fields })).json());
    const named = { type: "function", function: { name: "news" } };
    const one = (await ask({ tool_choice: named })).choices[0];
    expect([one.finish_reason, one.message.tool_calls.length]).toEqual(["stop", 1]);
    expect(one.message.tool_calls[0].function.name).toBe("news");
    const required = (await ask({ tool_choice: "required" })).choices[0];
    expect(required.message.tool_calls).toHaveLength(1);
    const cut = (await ask({ tool_choice: "required", max_tokens: 2 })).choices[0];
    expect(cut.finish_reason).toBe("length");
    expect(cut.message.tool_calls[0].function.arguments).toBe('{"ci');
    expect((await ask({})).choices[0].message.content).toStartWith("[simulated] ");
    const missing = { type: "function", function: { name: "none" } };
    expect((await ask({ tool_choice: missing })).error.param).toBe("tool_choice");
    expect((await ask({ tools: [], tool_choice: "required" })).error.param).toBe("tool_choice");
  });

  test("thoughts come first, and count", async () => {
    const fields = { chat_template_kwargs: { enable_thinking: true } };
    const whole = Object(await (await chat(sim, fields)).json());
    expect(whole.usage.completion_tokens).toBe(72);
    const { content, reasoning_content: thoughts, reasoning } = whole.choices[0].message;
    expect([thoughts.length, reasoning]).toEqual([32, thoughts]);
    const text = await (await chat(sim, { ...fields, stream: true })).text();
    const deltas = text
      .split("\n\n")
      .filter((part) => part.includes('"delta"'))
      .map((part) => JSON.parse(part.slice(6)).choices[0].delta);
    expect(deltas.map((delta) => delta.reasoning_content ?? "").join("")).toBe(thoughts);
    expect(deltas.map((delta) => delta.content ?? "").join("")).toBe(content);
    expect(deltas.findLastIndex((delta) => delta.reasoning_content)).toBeLessThan(
      deltas.findIndex((delta) => delta.content),
    );
  });

  test("log probabilities of chats and completions, whole and streamed", async () => {
    const fields = { logprobs: true, top_logprobs: 2, max_tokens: 3 };
    const whole = Object(await (await chat(sim, fields)).json()).choices[0].logprobs.content;
    expect(whole).toMatchObject([{ token: "[sim" }, { token: "ulat" }, { token: "ed] " }]);
    expect(whole[0]).toEqual({
      token: "[sim",
      logprob: expect.any(Number),
      bytes: [..."[sim"].map((one) => one.charCodeAt(0)),
      top_logprobs: [expect.objectContaining({ token: "[sim" }), expect.any(Object)],
    });
    const read = async (response: Response) =>
      (await response.text())
        .split("\n\n")
        .filter((part) => part.startsWith("data: {"))
        .map((part) => JSON.parse(part.slice(6)).choices[0].logprobs);
    const streamed = await read(await chat(sim, { ...fields, stream: true }));
    expect(streamed.flatMap((one) => one?.content ?? [])).toEqual(whole);
    const body = { prompt: "x", logprobs: 1, max_tokens: 3 };
    const list = Object(await (await post(sim, "/v1/completions", body)).json()).choices[0]
      .logprobs;
    expect([list.tokens, list.text_offset]).toEqual([
      ["[sim", "ulat", "ed] "],
      [0, 4, 8],
    ]);
    const parts = await read(await post(sim, "/v1/completions", { ...body, stream: true }));
    expect(parts.flatMap((one) => one?.text_offset ?? [])).toEqual([0, 4, 8]);
    expect((await chat(sim, { logprobs: true, top_logprobs: 99 })).status).toBe(400);
  });
});

describe("what ranks, scores and classifies", () => {
  test.each(["/rerank", "/v1/rerank", "/v2/rerank"])("%s", async (path) => {
    const body = { model: MODEL, query: "a", documents: ["b", { text: "c" }, "d"], top_n: 2 };
    const { results } = Object(await (await post(sim, path, body)).json());
    expect(results).toHaveLength(2);
    expect(results[0].relevance_score).toBeGreaterThanOrEqual(results[1].relevance_score);
    expect(results[0]).toMatchObject({
      index: expect.any(Number),
      document: { text: expect.any(String) },
    });
  });

  test("scores, classes, pooling, and what they refuse", async () => {
    const ask = async (path: string, body: object) => (await post(sim, path, body)).json();
    expect(await ask("/v1/score", { text_1: "a", text_2: ["b", "c"] })).toMatchObject({
      object: "list",
      data: [{ index: 0, score: expect.any(Number) }, { index: 1 }],
    });
    expect(await ask("/score", { text_1: ["a", "b", "c"], text_2: ["d", "e"] })).toMatchObject({
      error: { param: "text_1" },
    });
    expect(await ask("/classify", { input: ["a", "b"] })).toMatchObject({
      data: [{ num_classes: 2, label: expect.stringMatching(/^LABEL_/) }, {}],
    });
    expect(await ask("/pooling", { input: "a", dimensions: 4 })).toMatchObject({
      data: [{ object: "pooling", data: expect.any(Array) }],
    });
    expect((await post(sim, "/rerank", { documents: ["x"] })).status).toBe(400);
    expect((await post(sim, "/rerank", { query: "x" })).status).toBe(400);
  });
});

describe("sound and pictures", () => {
  const form = (fields: Record<string, string | Blob>) => {
    const made = new FormData();
    for (const [name, value] of Object.entries(fields)) made.append(name, value);
    return made;
  };

  test.each(["transcriptions", "translations"])("%s echo the form", async (route) => {
    const bytes = new Uint8Array(100_000).map((_, i) => i);
    const body = form({ model: MODEL, language: "de", file: new File([bytes], "a.wav") });
    const send = () => fetch(`${sim.url}/v1/audio/${route}`, { method: "POST", body });
    const answer = await send();
    const { text } = Object(await answer.json());
    const hash = Bun.hash.xxHash64(bytes).toString(16);
    expect(text).toStartWith("[simulated] ");
    expect(text).toContain(`file: 100000 bytes of a.wav, xxh64 ${hash}`);
    expect(text).toContain("language=de");
  });

  test("a form without a file, of another model, or none at all", async () => {
    const url = `${sim.url}/v1/audio/transcriptions`;
    const status = async (body: FormData | string, headers: Record<string, string> = {}) =>
      (await fetch(url, { method: "POST", body, headers })).status;
    expect(await status(form({ model: MODEL }))).toBe(400);
    expect(await status(form({ model: "nope", file: new File(["x"], "x") }))).toBe(404);
    expect(await status("{}", { "content-type": "application/json" })).toBe(400);
    const broken = { "content-type": "multipart/form-data; boundary=x" };
    expect(await status("nonsense", broken)).toBe(400);
  });

  test("speech is the same bytes each time", async () => {
    const speak = async (input: string) =>
      await post(sim, "/v1/audio/speech", { model: MODEL, input, voice: "a" });
    const [one, two, other] = [await speak("hi"), await speak("hi"), await speak("ho")];
    expect(one.headers.get("content-type")).toBe("audio/wav");
    const bytes = await one.bytes();
    expect(bytes).toHaveLength(4096);
    expect(await two.bytes()).toEqual(bytes);
    expect(await other.bytes()).not.toEqual(bytes);
    const unknown = { input: "x", response_format: "midi" };
    expect((await post(sim, "/v1/audio/speech", unknown)).status).toBe(400);
  });

  test("images and moderations", async () => {
    const picture = await openai.images.generate({ model: MODEL, prompt: "a dot" });
    const png = Buffer.from(picture.data?.[0]?.b64_json ?? "", "base64");
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    const judged = await openai.moderations.create({ model: MODEL, input: ["a", "b"] });
    expect(judged.results.map((result) => result.flagged)).toEqual([false, false]);
  });
});
