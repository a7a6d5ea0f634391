import { afterAll, beforeAll, expect, test } from "bun:test";
import OpenAI, { NotFoundError } from "openai";
import { MODEL, quickSim, type TestSim } from "./harness.ts";

let sim: TestSim;
let client: OpenAI;
beforeAll(async () => {
  sim = await quickSim({ ttftMs: 5, itlMs: 1 });
  client = new OpenAI({ baseURL: `${sim.url}/v1`, apiKey: "none", maxRetries: 0 });
});
afterAll(() => sim.stop());

const messages = [{ role: "user" as const, content: "Say something." }];

test("models.list", async () => {
  const models = await client.models.list();
  expect(models.data.map((model) => [model.id, model.owned_by])).toEqual([[MODEL, "llmnode-sim"]]);
});

test("chat, and the same as a stream", async () => {
  const whole = await client.chat.completions.create({ model: MODEL, messages });
  const said = whole.choices[0]?.message.content ?? "";
  expect(said).toStartWith("[simulated] ");
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage: OpenAI.CompletionUsage | null | undefined = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  expect(text).toBe(said);
  expect(usage?.total_tokens).toBe(whole.usage?.total_tokens ?? 0);
});

test("completions", async () => {
  const answer = await client.completions.create({ model: MODEL, prompt: "Once", max_tokens: 5 });
  expect(answer.choices[0]?.text).toHaveLength(20);
  const stream = await client.completions.create({
    model: MODEL,
    prompt: "Once",
    max_tokens: 5,
    stream: true,
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.text ?? "";
  expect(text).toBe(answer.choices[0]?.text ?? "");
});

test("embeddings, which the client asks for in base64", async () => {
  const { data } = await client.embeddings.create({ model: MODEL, input: ["a", "b"] });
  expect(data).toHaveLength(2);
  expect(Math.hypot(...(data[0]?.embedding ?? []))).toBeCloseTo(1, 4);
});

test("an unknown model is a NotFoundError", async () => {
  const asked = client.chat.completions.create({ model: "other", messages });
  const error = await asked.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(NotFoundError);
});
