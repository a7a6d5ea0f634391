import { expect, test } from "bun:test";
import fc from "fast-check";
import { factsOf, factsOfJson, mergeFacts, NO_FACTS } from "../../../src/proxy/record/usage.ts";
import { parseJson } from "../../../src/util/json.ts";

const usage = (input: number | null, output: number | null, more: object = {}) => ({
  input,
  output,
  cachedInput: null,
  reasoning: null,
  ...more,
});

test.each([
  ["OpenAI", { usage: { prompt_tokens: 3, completion_tokens: 2 } }, usage(3, 2)],
  [
    "OpenAI with details",
    {
      usage: {
        prompt_tokens: 3,
        completion_tokens: 2,
        prompt_tokens_details: { cached_tokens: 0 },
        completion_tokens_details: { reasoning_tokens: 1 },
      },
    },
    usage(3, 2, { cachedInput: 0, reasoning: 1 }),
  ],
  [
    "Responses",
    {
      object: "response",
      usage: { input_tokens: 3, output_tokens: 2, input_tokens_details: { cached_tokens: 1 } },
    },
    usage(3, 2, { cachedInput: 1 }),
  ],
  [
    "an event of the Responses API",
    { type: "response.completed", response: { usage: { input_tokens: 3, output_tokens: 2 } } },
    usage(3, 2),
  ],
  [
    "Anthropic's first event",
    { type: "message_start", message: { usage: { input_tokens: 3, cache_read_input_tokens: 2 } } },
    usage(3, null, { cachedInput: 2 }),
  ],
  ["Anthropic's last", { type: "message_delta", usage: { output_tokens: 9 } }, usage(null, 9)],
  ["Ollama", { done: true, prompt_eval_count: 3, eval_count: 0 }, usage(3, 0)],
  ["TGI", { generated_text: "x", details: { generated_tokens: 5 } }, usage(null, 5)],
  ["null", { usage: null }, null],
  ["words", { usage: { prompt_tokens: "3" } }, null],
  ["what cannot be", { usage: { prompt_tokens: -1, completion_tokens: 1e400 } }, null],
  ["a list", [{ usage: {} }], null],
  ["nothing", undefined, null],
])("usage of %s", (_, value, expected) => {
  expect(factsOf(value).usage).toEqual(expected as never);
});

test.each([
  [{ choices: [{ finish_reason: "stop" }] }, "stop"],
  [{ choices: [{ finish_reason: null }] }, null],
  [{ type: "message_delta", delta: { stop_reason: "end_turn" } }, "end_turn"],
  [{ stop_reason: "max_tokens" }, "max_tokens"],
  [{ done: true, done_reason: "length" }, "length"],
  [{ details: { finish_reason: "eos_token" } }, "eos_token"],
  [{ type: "response.completed", response: { status: "completed" } }, "completed"],
  [{ object: "response", status: "incomplete" }, "incomplete"],
  [{ choices: [{ finish_reason: "x".repeat(100) }] }, "x".repeat(64)],
])("%j ended with %p", (value, reason) => {
  expect(factsOf(value).finishReason).toBe(reason);
});

test("later facts win, number by number", () => {
  const first = { ...NO_FACTS, usage: usage(3, 1), finishReason: null };
  const last = { ...NO_FACTS, usage: usage(null, 9), finishReason: "stop" };
  expect(mergeFacts(first, last)).toEqual({
    ...NO_FACTS,
    usage: usage(3, 9),
    finishReason: "stop",
  });
  expect(mergeFacts(first, NO_FACTS)).toEqual(first);
});

test("in a large answer the usage is found from its end, whole or cut", () => {
  const body = {
    data: Array.from({ length: 3000 }, (_, i) => ({ embedding: [i], usage: "no" })),
    usage: { prompt_tokens: 7, completion_tokens: 0 },
  };
  const bytes = new TextEncoder().encode(JSON.stringify(body, null, 1));
  expect(factsOfJson(bytes, true).usage).toEqual(usage(7, 0));
  expect(factsOfJson(bytes.subarray(-200), false).usage).toEqual(usage(7, 0));
  expect(factsOfJson(bytes.subarray(0, -20), false).usage).toBeNull();
  expect(factsOfJson(bytes.subarray(0, 2000), true).usage).toBeNull();
});

test("an answer of any shape and length says what all of it says, however it is read", () => {
  const words = fc.constantFrom(
    ...['"finish_reason":"x"', '"usage":{', "finish_reason", "usage", "error", "\\\\", '"', "é😀 "],
    "word ".repeat(300),
  );
  const text = fc.array(words, { maxLength: 6 }).map((all) => all.join(""));
  const reason = fc.option(fc.constantFrom("stop", "length", "tool_calls", ""));
  const choice = fc.record({ message: fc.record({ content: text }), finish_reason: reason });
  // Engines tell the reason of every choice or of none.
  const listed = fc.record({ choices: fc.array(choice, { maxLength: 3 }), told: fc.boolean() });
  const choices = listed.map(({ choices: all, told }) =>
    all.map(({ message, finish_reason }) => ({
      ...{ index: 0, message, logprobs: null },
      ...(told && { finish_reason }),
      stop_reason: null,
    })),
  );
  const count = fc.option(fc.constantFrom<unknown>(0, 7, -1, "7"));
  const used = fc.option(fc.record({ prompt_tokens: count, completion_tokens: count }));
  const extra = fc.constantFrom<object>(
    ...[{}, { message: { role: "x" } }, { response: { usage: {} } }, { timings: [{ x: [] }] }],
    ...[{ error: null }, { error: { message: "boom" } }, { object: "error" }],
    ...[{ details: { finish_reason: "length" } }, { kv: null }],
  );
  const parts = fc.record({ before: extra, choices, used, after: extra, pad: text });
  const answer = parts.chain(({ before, choices: all, used: usage, after, pad }) =>
    fc.constantFrom<object>(
      { ...before, choices: all, usage, ...after, pad },
      { ...before, choices: all, pad, ...after, usage },
      { usage, ...before, choices: all, ...after },
      { pad, response: { choices: all, usage }, ...after },
      { choices: { choices: all }, usage, pad },
    ),
  );
  const property = fc.property(answer, fc.constantFrom(undefined, 1), (value, indent) => {
    const json = JSON.stringify(value, null, indent);
    expect(factsOfJson(new TextEncoder().encode(json), true)).toEqual(factsOf(JSON.parse(json)));
  });
  fc.assert(property, { numRuns: 3000 });
});

test("no value makes it throw", () => {
  const property = fc.property(fc.jsonValue(), fc.string(), (value, text) => {
    const key = { usage: value, choices: value, error: value, details: value, response: value };
    factsOf(value);
    factsOf(key);
    const bytes = new TextEncoder().encode(`{"usage":${text}`);
    factsOfJson(bytes, false);
    factsOfJson(bytes, true);
    parseJson(text);
  });
  fc.assert(property, { numRuns: 1000 });
});
