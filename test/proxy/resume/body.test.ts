import { describe, expect, test } from "bun:test";
import {
  continuationBody,
  readResumable,
  type ResumeKind,
  tokenizeBodies,
} from "../../../src/proxy/resume/body.ts";

const messages = [{ role: "user", content: "hi" }];

function resumable(kind: ResumeKind, body: object) {
  const found = readResumable(kind, Buffer.from(JSON.stringify(body)));
  if (!found) throw new Error("it may not go on");
  return found;
}

describe("the most tokens of the whole answer", () => {
  test.each<[kind: ResumeKind, body: object, most: number | null]>([
    ["chat", {}, null],
    ["chat", { max_tokens: null }, null],
    ["chat", { max_tokens: 7 }, 7],
    ["chat", { max_completion_tokens: 5, max_tokens: 7 }, 5],
    ["chat", { max_completion_tokens: null, max_tokens: 7 }, 7],
    // What engines write when nothing is said.
    ["completion", {}, 16],
    ["completion", { max_tokens: null }, null],
    ["completion", { max_tokens: 7 }, 7],
  ])("of a %s with %j: %p", (kind, body, most) => {
    const prompt = kind === "chat" ? { messages } : { prompt: "p" };
    expect(resumable(kind, { model: "m", ...prompt, ...body }).maxTokens).toBe(most);
  });
});

test("a chat goes on from a last message, with fewer tokens, under no old name", () => {
  const body = {
    model: "m",
    messages,
    rid: "old",
    temperature: 0.3,
    max_completion_tokens: 9,
    max_tokens: 9,
    chat_template_kwargs: { enable_thinking: false },
  };
  const request = resumable("chat", body);
  const continued = {
    messages: [...messages, { role: "assistant", content: "so far" }],
    add_generation_prompt: false,
    continue_final_message: true,
  };
  const chat_template_kwargs = { enable_thinking: false };
  expect(continuationBody(request, { text: "so far", tokensLeft: 4 })).toEqual({
    model: "m",
    temperature: 0.3,
    chat_template_kwargs,
    ...continued,
    max_completion_tokens: 4,
  });
  expect(tokenizeBodies(request, "so far")).toEqual({
    before: { model: "m", messages, add_generation_prompt: true, chat_template_kwargs },
    after: { model: "m", ...continued, chat_template_kwargs },
  });
});

test("a completion goes on from a longer prompt", () => {
  const request = resumable("completion", { model: "m", prompt: "once ", max_tokens: 9 });
  expect(continuationBody(request, { text: "upon", tokensLeft: 8 })).toEqual({
    model: "m",
    prompt: "once upon",
    max_tokens: 8,
  });
  expect(tokenizeBodies(request, "upon")).toEqual({
    before: { model: "m", prompt: "once " },
    after: { model: "m", prompt: "once upon" },
  });
});

test("where nothing has been said, the request is made again as it was", () => {
  const body = { model: "m", messages, max_tokens: 9, tool_choice: "none" };
  const request = resumable("chat", { ...body, rid: "old" });
  expect(continuationBody(request, { text: "", tokensLeft: 9 })).toEqual(body);
});

test("fields at the values that change nothing do not matter", () => {
  const neutral = {
    ...{ n: 1, stop: null, seed: null, tools: [], tool_choice: "auto", logprobs: false },
    ...{ presence_penalty: 0, frequency_penalty: 0, repetition_penalty: 1, min_tokens: 0 },
    ...{ ignore_eos: false, response_format: { type: "text" }, guided_json: null },
    ...{ stream: true, stream_options: { include_usage: true }, logit_bias: { 5: 1 } },
  };
  const found = resumable("chat", { model: "m", messages, ...neutral });
  expect(found.wantsUsage).toBe(true);
});

test.each([
  "[]",
  "1",
  "{",
  '{"messages":1}',
  '{"messages":[]}',
  '{"messages":[1]}',
  '{"__proto__":{}}',
])("what is no request, such as %s, does not go on", (text) => {
  expect(readResumable("chat", Buffer.from(text))).toBeNull();
});
