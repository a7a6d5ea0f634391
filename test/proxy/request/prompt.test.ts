import { expect, test } from "bun:test";
import fc from "fast-check";
import { Names } from "../../../src/proxy/json/names.ts";
import { scanObject } from "../../../src/proxy/json/scan.ts";
import type { PromptFacts } from "../../../src/protocol/replica-request.ts";
import { MESSAGE_LISTS, PROMPT_MEMBERS, JsonPrompt } from "../../../src/proxy/request/prompt.ts";

function sourceOf(body: string | object, { model = "m", operation = "chat" } = {}) {
  const bytes = new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body));
  const object = scanObject(bytes, new Names(PROMPT_MEMBERS, { walked: MESSAGE_LISTS }));
  return new JsonPrompt({ bytes, object, model, route: { operation }, bodyHash: "" });
}

function factsOf(body: string | object, more: { model?: string } = {}): PromptFacts {
  const facts = sourceOf(body, more).read(true);
  if (facts === null) throw new Error("no prompt");
  return facts;
}

function keysOf({ hashes, ends }: PromptFacts): string[] {
  return [...ends].map((_, i) => `${hashes[i * 2]}-${hashes[i * 2 + 1]}`);
}

/** The bytes up to which two prompts are known to be alike. */
function alike(a: PromptFacts, b: PromptFacts): number {
  const known = new Set(keysOf(a));
  const at = keysOf(b).findLastIndex((key) => known.has(key));
  return b.ends[at] ?? 0;
}

const said = (role: string, text: string) => ({ role, content: text });
const long = (seed: string, length = 1000) => seed.repeat(Math.ceil(length / seed.length));

test("the next turn of a conversation is like the one before up to its last message", () => {
  const first = { messages: [said("system", long("sys ")), said("user", long("one "))] };
  const next = {
    messages: [...first.messages, said("assistant", long("two ")), said("user", "three")],
  };
  const [a, b] = [factsOf(first), factsOf(next)];
  // All but the bracket that ends the list.
  expect(alike(a, b)).toBe(JSON.stringify(first.messages).length - 1);
  expect(a.bytes).toBe(JSON.stringify(first.messages).length);
});

test("conversations that differ in one early byte have nothing in common behind it", () => {
  const of = (name: string) => ({ messages: [said("system", `I am ${name}. ${long("x")}`)] });
  expect(alike(factsOf(of("A")), factsOf(of("B")))).toBe(0);
});

test.each([
  ["the model", {}, { model: "other" }],
  ["a LoRA", { lora_path: "a" }, {}],
  ["a salt", { cache_salt: "a" }, {}],
  ["tools", { tools: [{ type: "function", function: { name: "f" } }] }, {}],
  ["a system prompt", { system: "s" }, {}],
  ["instructions", { instructions: "s" }, {}],
])("%s tells prompts apart from the start", (_, fields, more) => {
  const messages = [said("user", long("same "))];
  expect(alike(factsOf({ messages }), factsOf({ ...fields, messages }, more))).toBe(0);
});

test("the order of members in the body does not matter, other members do not either", () => {
  const messages = [said("user", long("same "))];
  const a = factsOf({ model: "m", tools: [1], messages, temperature: 1 });
  const b = factsOf({ messages, temperature: 0, seed: 3, tools: [1], stream: true });
  expect(keysOf(a)).toEqual(keysOf(b));
});

test.each([
  ["prompt", "text"],
  ["prompt", ["one", "two"]],
  ["prompt", [1, 2, 3, 4]],
  ["prompt", [[1, 2], [3]]],
  ["input", "text"],
  ["input", [said("user", "hi")]],
  ["inputs", "text"],
  ["text", "text"],
  ["messages", []],
  ["messages", [{ role: "user", content: [{ type: "text", text: "hi" }] }]],
])("%s: %j is a prompt", (key, value) => {
  expect(factsOf({ [key]: value }).bytes).toBe(JSON.stringify(value).length);
});

test.each([
  ["no member", {}],
  ["a prompt that is null", { prompt: null }],
  ["a stored prompt's id", { prompt: { id: "p" } }],
  ["the format of a response", { text: { format: { type: "json" } } }],
])("%s is no prompt", (_, body) => {
  expect(sourceOf(body).read(true)).toBeNull();
});

test.each(["embeddings", "rerank", "tokenize", "transcription"])(
  "%s has none: it goes where least is to do",
  (operation) => {
    expect(sourceOf({ input: "text" }, { operation }).read(true)).toBeNull();
  },
);

test("escapes count as the bytes that they are, and of duplicates the last member", () => {
  const body = '{"messages":"old","\\u006dessages":["\\"]\\u005d\\\\"],"user":"a\\u0062"}';
  const source = sourceOf(body);
  expect(source.read(true)?.bytes).toBe('["\\"]\\u005d\\\\"]'.length);
  expect(source.session).toBe("ab");
});

test("spaces between messages change nothing that lies before them", () => {
  const one = JSON.stringify(said("user", long("one ")));
  const two = JSON.stringify(said("user", long("two ")));
  const first = factsOf(`{"messages":[${one}\n]}`);
  const next = factsOf(`{"messages":[${one},\n ${two}\n]}`);
  expect(alike(first, next)).toBe(one.length + 1);
});

test("at most 128 boundaries, none beyond 4 MB, in ascending order", () => {
  const messages = Array.from({ length: 9000 }, (_, i) => said("user", long(`${i} `, 900)));
  const facts = factsOf({ messages });
  expect(facts.bytes).toBeGreaterThan(8_000_000);
  expect(facts.ends.length).toBe(128);
  expect(facts.hashes.length).toBe(256);
  expect(facts.ends.at(-1)).toBeLessThanOrEqual(4 * 1024 * 1024);
  expect([...facts.ends].every((end, i, all) => i === 0 || end > (all[i - 1] ?? 0))).toBe(true);
});

test("a long conversation of many messages is still known at its end", () => {
  const messages = Array.from({ length: 500 }, (_, i) => said("user", long(`${i} `, 700)));
  const first = factsOf({ messages });
  const next = factsOf({ messages: [...messages, said("user", long("new "))] });
  expect(alike(first, next)).toBeGreaterThan(0.99 * first.bytes);
});

test("a million tiny messages cost no million boundaries", () => {
  const facts = factsOf(`{"messages":[${"0,".repeat(999_999)}0]}`);
  expect(facts.ends.length).toBeLessThanOrEqual(128);
});

test("prompts are alike exactly as far as their bytes are, at boundaries", () => {
  const message = fc.record({
    role: fc.constantFrom("user", "assistant"),
    content: fc.string({ maxLength: 600, unit: "grapheme" }),
  });
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 12 }),
      fc.array(message, { maxLength: 4 }),
      fc.array(message, { maxLength: 4 }),
      (shared, a, b) => {
        const [left, right] = [{ messages: [...shared, ...a] }, { messages: [...shared, ...b] }];
        const end = alike(factsOf(left), factsOf(right));
        const bytes = (body: typeof left) => Buffer.from(JSON.stringify(body.messages));
        expect(bytes(left).subarray(0, end).equals(bytes(right).subarray(0, end))).toBe(true);
        const known = bytes({ messages: shared }).length - 1;
        // A boundary is no further back than the growth of the fixed offsets, or a small message.
        if (shared.length > 0) expect(end).toBeGreaterThanOrEqual(known * 0.9 - 256);
      },
    ),
    { numRuns: 200 },
  );
});

test.each([
  [{ max_tokens: 5 }, 5],
  [{ max_tokens: 5, max_completion_tokens: 7 }, 7],
  [{ max_output_tokens: 9 }, 9],
  [{ n_predict: 3 }, 3],
  [{ options: { num_predict: 4 } }, 4],
  [{ options: { num_predict: -1 } }, null],
  [{ parameters: { max_new_tokens: 6 } }, 6],
  [{ sampling_params: { max_new_tokens: 8 } }, 8],
  [{ sampling_params: [{ max_new_tokens: 8 }] }, null],
  [{ max_tokens: "5" }, null],
  [{ max_tokens: null, options: null }, null],
  [{ max_tokens: 1.5 }, null],
  [{}, null],
])("the answer's limit in %j is %p", (fields, limit) => {
  expect(factsOf({ prompt: "x", ...fields }).maxTokens).toBe(limit);
});

test.each([
  [{ session_id: "a", user: "b" }, "a"],
  [{ user: "b" }, "b"],
  [{ user: "" }, null],
  [{ user: 7 }, null],
  [{}, null],
  [{ user: "x".repeat(1000) }, "x".repeat(256)],
])("the session of %j", (body, session) => {
  expect(sourceOf(body).session).toBe(session);
});

test("a picture counts as a picture, not as text", () => {
  const picture = (base64: string) => [
    { role: "user", content: [{ type: "image_url", image_url: { url: `data:png,${base64}` } }] },
  ];
  const facts = factsOf({ messages: picture("A".repeat(1_000_000)) });
  expect(facts.bytes).toBeLessThan(5000);
  expect(alike(facts, factsOf({ messages: picture("B".repeat(1_000_000)) }))).toBe(0);
  const source = { type: "base64", data: "A".repeat(100_000) };
  expect(factsOf({ messages: [{ content: [{ source }] }] }).bytes).toBeLessThan(5000);
  const quoted = JSON.stringify({ data: "A".repeat(100_000) });
  expect(factsOf({ messages: [said("user", quoted)] }).bytes).toBeGreaterThan(100_000);
});

test("without a reason to look, only the length is found; what was read outlives the body", () => {
  const source = sourceOf({ prompt: long("x") });
  expect(source.read(false)).toMatchObject({ bytes: 1002, ends: new Uint32Array() });
  expect(source.read(true)?.ends.length).toBeGreaterThan(0);
  expect(source.read(false)?.ends.length).toBeGreaterThan(0);
  source.free();
  expect(source.read(true)?.ends.length).toBeGreaterThan(0);
  const late = sourceOf({ prompt: "x" });
  late.free();
  expect(late.read(true)).toBeNull();
});
