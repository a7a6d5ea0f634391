import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Ollama } from "ollama";
import { lines, post, quickSim, until, type TestSim } from "../harness.ts";

let sim: TestSim;
let client: Ollama;
beforeAll(async () => {
  sim = await quickSim({ like: "ollama", models: ["llama3.2", "team/tiny:1b"] });
  client = new Ollama({ host: sim.url });
});
afterAll(() => sim.stop());

const messages = [{ role: "user", content: "hello" }];
const native = { model: "llama3.2", created_at: expect.any(String) };
const counted = {
  done: true,
  done_reason: "length",
  total_duration: expect.any(Number),
  load_duration: expect.any(Number),
  prompt_eval_count: expect.any(Number),
  prompt_eval_duration: expect.any(Number),
  eval_count: 3,
  eval_duration: expect.any(Number),
};
const short = { options: { num_predict: 3 } };

describe("the official client", () => {
  test("lists, shows and tells the version", async () => {
    const { models } = await client.list();
    expect(models.map((model) => model.name)).toEqual(["llama3.2:latest", "team/tiny:1b"]);
    expect(models[0]).toMatchObject({ size: expect.any(Number), details: { format: "gguf" } });
    const shown = await client.show({ model: "llama3.2" });
    expect(shown.capabilities).toContain("completion");
    expect(await client.version()).toMatchObject({ version: expect.stringMatching(/^\d/) });
  });

  test("a chat, whole and streamed, says the same", async () => {
    const whole = await client.chat({ model: "llama3.2", messages });
    expect(whole.message.content).toStartWith("[simulated] ");
    expect(whole).toMatchObject({ done: true, done_reason: "stop", eval_count: 64 });
    let text = "";
    let last = null;
    for await (const part of await client.chat({ model: "llama3.2", messages, stream: true })) {
      text += part.message.content;
      last = part;
    }
    expect(text).toBe(whole.message.content);
    expect(last).toMatchObject({ done: true, eval_count: 64, prompt_eval_count: 6 });
  });

  test("generate, with and without :latest", async () => {
    const one = await client.generate({ model: "llama3.2", prompt: "x", ...short });
    const two = await client.generate({ model: "llama3.2:latest", prompt: "x", ...short });
    expect([one.response, one.done_reason]).toEqual(["[simulated] ", "length"]);
    expect([two.response, two.model]).toEqual([one.response, "llama3.2:latest"]);
  });

  test("embed and embeddings", async () => {
    const { embeddings } = await client.embed({ model: "llama3.2", input: ["a", "b"] });
    expect(embeddings.map((vector) => vector.length)).toEqual([256, 256]);
    const { embedding } = await client.embeddings({ model: "llama3.2", prompt: "a" });
    expect(embedding).toEqual(embeddings[0] ?? []);
  });

  test("a model that nobody pulled", async () => {
    await expect(client.chat({ model: "nope", messages })).rejects.toThrow(
      "model 'nope' not found",
    );
  });
});

test("a stream of lines, each one an object", async () => {
  const response = await post(sim, "/api/chat", { model: "llama3.2", messages, ...short });
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const token = (content: string) => ({
    ...native,
    message: { role: "assistant", content },
    done: false,
  });
  expect(lines(await response.text())).toEqual([
    token("[sim"),
    token("ulat"),
    token("ed] "),
    { ...native, message: { role: "assistant", content: "" }, ...counted },
  ]);
});

test("generate without a stream, its body unlabelled as curl sends it", async () => {
  const response = await fetch(`${sim.url}/api/generate`, {
    method: "POST",
    body: JSON.stringify({ model: "llama3.2", prompt: "x", stream: false, ...short }),
    headers: { "content-type": "application/x-www-form-urlencoded" },
  });
  expect(await response.json()).toEqual({ ...native, response: "[simulated] ", ...counted });
});

test("errors: flat on its own routes, nested on OpenAI's, plain where there is no route", async () => {
  const ask = async (path: string, body: unknown) => {
    const response = await post(sim, path, body);
    return [response.status, await response.json()];
  };
  expect(await ask("/api/generate", { model: "nope", prompt: "x" })).toEqual([
    404,
    { error: "model 'nope' not found" },
  ]);
  expect(await ask("/api/chat", "{")).toEqual([400, { error: expect.any(String) }]);
  expect(await ask("/v1/chat/completions", { model: "nope", messages })).toEqual([
    404,
    {
      error: {
        message: "model 'nope' not found",
        type: "not_found_error",
        param: null,
        code: null,
      },
    },
  ]);
  const missing = await fetch(`${sim.url}/metrics`);
  expect([missing.status, await missing.text()]).toEqual([404, "404 page not found"]);
  expect((await fetch(`${sim.url}/v1/messages/count_tokens`, { method: "POST" })).status).toBe(404);
});

test("OpenAI's list and stream", async () => {
  const list = await (await fetch(`${sim.url}/v1/models`)).json();
  expect(list).toEqual({
    object: "list",
    data: [
      { id: "llama3.2:latest", object: "model", created: expect.any(Number), owned_by: "library" },
      { id: "team/tiny:1b", object: "model", created: expect.any(Number), owned_by: "team" },
    ],
  });
  const one = await fetch(`${sim.url}/v1/models/llama3.2`);
  expect(await one.json()).toMatchObject({ id: "llama3.2:latest" });
  expect((await fetch(`${sim.url}/v1/models/nope`)).status).toBe(404);
  const stream = await post(sim, "/v1/chat/completions", {
    model: "llama3.2",
    messages,
    stream: true,
    max_tokens: 1,
  });
  const text = await stream.text();
  expect(text).toContain('"system_fingerprint":"fp_ollama"');
  expect(text).toContain('"delta":{"role":"assistant","content":"[sim"},"finish_reason":null}]}');
  expect(text).toEndWith('"finish_reason":"length"}]}\n\ndata: [DONE]\n\n');
});

test("it is refused by a public name, greets by any other", async () => {
  const status = async (host: string) =>
    (await fetch(`${sim.url}/api/tags`, { headers: { host } })).status;
  expect(await status("llm.example.com")).toBe(403);
  expect(await status(`127.0.0.1:${sim.port}`)).toBe(200);
  expect(await status("localhost")).toBe(200);
  expect(await status("box.internal:11434")).toBe(200);
  expect(await (await fetch(sim.url)).text()).toBe("Ollama is running");
  expect((await fetch(sim.url, { method: "HEAD" })).status).toBe(200);
});

describe("loading", () => {
  test("the first request waits for the load, the next one does not", async () => {
    await using own = await quickSim({ like: "ollama", models: ["m"], loadTimeMs: 200 });
    const ollama = new Ollama({ host: own.url });
    expect((await ollama.ps()).models).toEqual([]);
    const first = await ollama.generate({ model: "m", prompt: "x", ...short });
    expect(first.load_duration).toBeGreaterThan(150e6);
    expect((await ollama.ps()).models[0]).toMatchObject({
      name: "m:latest",
      context_length: 32_768,
    });
    const second = await ollama.generate({ model: "m", prompt: "x", ...short });
    expect(second.load_duration).toBeLessThan(first.load_duration);
  });

  test("a request without words loads and unloads", async () => {
    await using own = await quickSim({ like: "ollama", models: ["m"] });
    const ollama = new Ollama({ host: own.url });
    const load = await ollama.generate({ model: "m", prompt: "", keep_alive: -1 });
    expect(load).toMatchObject({ done: true, done_reason: "load", response: "" });
    expect((await ollama.ps()).models).toHaveLength(1);
    const unload = await ollama.chat({ model: "m", messages: [], keep_alive: 0 });
    expect(unload).toMatchObject({ done_reason: "unload", message: { content: "" } });
    expect((await ollama.ps()).models).toEqual([]);
  });

  test("a client that leaves takes its load with it", async () => {
    await using own = await quickSim({ like: "ollama", models: ["m"], loadTimeMs: 60_000 });
    const leave = new AbortController();
    const asked = post(
      own,
      "/v1/chat/completions",
      { model: "m", messages },
      { signal: leave.signal },
    ).catch(() => "left");
    await until("the load begins", () => own.lines.some((line) => line.includes("starting")));
    leave.abort();
    expect(await asked).toBe("left");
    expect(await (await fetch(`${own.url}/api/ps`)).json()).toEqual({ models: [] });
  });
});

describe("faults", () => {
  test("an error in the stream is a line, the last one", async () => {
    await using own = await quickSim({ like: "ollama", errorInStreamTokens: 2 });
    const text = await (await post(own, "/api/generate", { prompt: "x" })).text();
    expect(lines(text).map((line) => Object.keys(Object(line)).includes("error"))).toEqual([
      false,
      false,
      true,
    ]);
    expect(lines(text).at(-1)).toEqual({ error: "Internal server error (simulated)" });
    const openAi = await post(own, "/v1/completions", { prompt: "x", stream: true });
    expect(await openAi.text()).toEndWith(
      'data: {"error":{"message":"Internal server error (simulated)","type":"api_error","param":null,"code":null}}\n\n',
    );
  });

  test("no-done leaves the last object out", async () => {
    await using own = await quickSim({ like: "ollama", noDone: true });
    const text = await (await post(own, "/api/generate", { prompt: "x", ...short })).text();
    expect(lines(text)).toHaveLength(3);
    expect(text).not.toContain('"done":true');
  });

  test("a cut stream is an error, an error rate a status", async () => {
    await using own = await quickSim({ like: "ollama", dieMidStreamTokens: 2 });
    const response = await post(own, "/api/generate", { prompt: "x" });
    await expect(response.text()).rejects.toThrow();
    await using failing = await quickSim({ like: "ollama", errorRate: 1 });
    const failed = await post(failing, "/api/generate", { prompt: "x" });
    expect([failed.status, await failed.json()]).toEqual([
      500,
      { error: "Internal server error (simulated)" },
    ]);
  });

  test("its end cuts what runs", async () => {
    const own = await quickSim({ like: "ollama", itlMs: 20 });
    const response = await post(own, "/api/generate", { prompt: "x" });
    await own.stop();
    await expect(response.text()).rejects.toThrow();
  });
});
