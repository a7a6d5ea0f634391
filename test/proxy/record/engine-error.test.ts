import { expect, test } from "bun:test";
import fc from "fast-check";
import { readEngineError, readErrorBody } from "../../../src/proxy/record/engine-error.ts";

const nothing = { type: null, param: null, code: null };

test.each([
  [
    "vLLM, OpenAI",
    { error: { message: "too long", type: "BadRequestError", param: "max_tokens", code: 400 } },
    { message: "too long", type: "BadRequestError", param: "max_tokens", code: null },
  ],
  [
    "SGLang",
    { object: "error", message: "too long", type: "BadRequestError", param: null, code: 400 },
    { ...nothing, message: "too long", type: "BadRequestError" },
  ],
  [
    "TensorRT-LLM",
    { message: "bad", type: "invalid", code: "x" },
    { ...nothing, message: "bad", type: "invalid", code: "x" },
  ],
  [
    "TGI",
    { error: "too long", error_type: "validation" },
    { ...nothing, message: "too long", type: "validation" },
  ],
  ["Ollama", { error: "model not found" }, { ...nothing, message: "model not found" }],
  [
    "Anthropic's routes",
    { type: "error", error: { type: "not_found_error", message: "no" } },
    { ...nothing, message: "no", type: "not_found_error" },
  ],
  [
    "FastAPI",
    { detail: [{ loc: ["body", "n"], msg: "not an int" }, { msg: "b" }, "c"] },
    { ...nothing, message: "body.n: not an int; b; c" },
  ],
  ["FastAPI in words", { detail: "Not Found" }, { ...nothing, message: "Not Found" }],
])("the shape of %s", (_, value, expected) => {
  expect(readEngineError(value)).toEqual(expected);
});

test.each([[null], [undefined], ["x"], [7], [[]], [{}], [{ error: null }], [{ error: 7 }]])(
  "%j tells no error",
  (value) => {
    expect(readEngineError(value)).toBeNull();
  },
);

test.each([
  ["no JSON", "Internal Server Error\nTraceback", 500, "Internal Server Error"],
  ["nothing", "", 503, "The engine answered 503."],
  ["a page", "<html><body>nginx</body></html>", 502, "The engine answered 502."],
  ["a page with a doctype", "<!DOCTYPE html>", 502, "The engine answered 502."],
  ["JSON without an error", "{}", 500, "{}"],
  ["an empty message", '{"error":""}', 400, '{"error":""}'],
  ["controls", "\u001b[31mred\u0007\u0000", 500, "red"],
])("a body of %s", (_, body, status, message) => {
  expect(readErrorBody(Buffer.from(body), status)).toEqual({ ...nothing, message });
});

test("a body that is cut, not UTF-8 or very long has a message of bounded length", () => {
  const cut = readErrorBody(Buffer.from(`{"error":{"message":"${"x".repeat(5000)}`), 500);
  expect(cut.message.length).toBeLessThanOrEqual(500);
  expect(readErrorBody(Buffer.from([0xff, 0xfe, 0x00]), 500).message).not.toBe("");
});

test("whatever JSON comes, there is a message in words", () => {
  const property = fc.property(fc.jsonValue(), (value) => {
    for (const body of [
      value,
      { error: value },
      { detail: value },
      { object: "error", x: value },
    ]) {
      const read = readErrorBody(Buffer.from(JSON.stringify(body)), 500);
      expect(typeof read.message).toBe("string");
      expect(read.message).not.toBe("");
    }
  });
  fc.assert(property, { numRuns: 1000 });
});
