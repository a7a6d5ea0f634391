import { expect, test } from "bun:test";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import {
  connectionFailure,
  type Remedy,
  statusFailure,
} from "../../../src/proxy/answer/failure.ts";

function failure(status: number, body: unknown, headers: Record<string, string> = {}) {
  const bytes = new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body));
  return statusFailure({ status, fields: Object.entries(headers) }, bytes, "openai");
}

// Source: what people have pasted into the engines' issue trackers.
test.each<[engine: string, status: number, body: unknown]>([
  [
    "vLLM",
    400,
    {
      object: "error",
      message:
        "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the messages, 10000 in the completion). Please reduce the length of the messages or completion.",
      type: "BadRequestError",
      param: null,
      code: 400,
    },
  ],
  [
    "vLLM, images",
    400,
    {
      error: {
        message:
          "The decoder prompt (length 10127) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.",
        type: "BadRequestError",
        code: 400,
      },
    },
  ],
  [
    "SGLang",
    400,
    {
      object: "error",
      message: "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
      type: "BadRequestError",
      param: null,
      code: 400,
    },
  ],
  [
    "SGLang, memory",
    400,
    {
      error: {
        message: "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).",
      },
    },
  ],
  [
    "SGLang, output",
    400,
    {
      error: {
        message:
          "Requested token count exceeds the model's maximum context length of 32768 tokens.",
      },
    },
  ],
  [
    "TGI, input",
    422,
    {
      error: "Input validation error: `inputs` must have less than 1024 tokens. Given: 1168",
      error_type: "validation",
    },
  ],
  [
    "TGI, both",
    422,
    {
      error:
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`",
      error_type: "validation",
    },
  ],
  [
    "llama-server",
    400,
    {
      error: {
        code: 400,
        message:
          "the request exceeds the available context size. try increasing the context size or enable context shift",
        type: "exceed_context_size_error",
        n_prompt_tokens: 14429,
        n_ctx: 8192,
      },
    },
  ],
  [
    "llama-server, newer",
    400,
    {
      error: {
        code: 400,
        message:
          "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
        type: "exceed_context_size_error",
      },
    },
  ],
  [
    "llama-server, later",
    500,
    { error: { code: 500, message: "Context size has been exceeded.", type: "server_error" } },
  ],
  ["Ollama", 400, { error: "the input length exceeds the context length" }],
  ["TensorRT-LLM", 400, { message: "Prompt length (5056) exceeds maximum sequence length (2048)" }],
  [
    "TensorRT-LLM, tokens",
    400,
    {
      message:
        "The sum of prompt length (9000.0) and query length (0) should not exceed max_num_tokens (8192)",
    },
  ],
  [
    "OpenAI",
    400,
    {
      error: {
        message: "too long",
        type: "invalid_request_error",
        code: "context_length_exceeded",
      },
    },
  ],
])("%s says that a prompt is too long", (_, status, body) => {
  expect(failure(status, body)).toMatchObject({
    outcome: "rejected",
    remedy: "longer_context",
    status,
  });
});

test.each<[what: string, status: number, message: string, remedy: Remedy]>([
  ["vLLM", 404, "The model `Qwen/Qwen3-8B` does not exist.", "second_opinion"],
  ["Ollama", 404, "model 'llama3.2:1b' not found", "second_opinion"],
  ["Ollama, older", 404, 'model "llama3.2" not found, try pulling it first', "second_opinion"],
  ["a response", 404, "Response with id 'resp_1' not found.", "none"],
  ["a route", 404, "Not Found", "none"],
  ["not with another status", 400, "The model `m` does not exist.", "none"],
  ["tools", 400, '"auto" tool choice requires --enable-auto-tool-choice', "none"],
  ["a field", 422, "max_tokens must be at least 1, got -1.", "none"],
  ["a length of another thing", 400, "'name' is longer than 64 characters", "none"],
])("what helps against a refusal: %s", (_, status, message, remedy) => {
  expect(failure(status, { error: { message } })).toMatchObject({ outcome: "rejected", remedy });
});

test.each([
  ["7", 7000],
  ["0", 0],
  ["999999", 3_600_000],
  ["soon", null],
  ["-5", null],
])("Retry-After: %s", (given, retryAfterMs) => {
  expect(failure(503, {}, { "retry-after": given }).retryAfterMs).toBe(retryAfterMs);
});

test("Retry-After as a date", () => {
  const given = new Date(Date.now() + 60_000).toUTCString();
  const { retryAfterMs } = failure(429, {}, { "retry-after": given });
  expect(retryAfterMs).toBeGreaterThan(50_000);
  expect(retryAfterMs).toBeLessThanOrEqual(60_000);
});

test.each<[what: string, error: unknown, outcome: string, remedy: Remedy]>([
  [
    "refused",
    Object.assign(new Error("x"), { code: "ConnectionRefused" }),
    "unreachable",
    "another",
  ],
  ["no free lane", new LlmnodeError("upstream_unreachable", "no lane"), "unreachable", "another"],
  [
    "a lane that broke",
    Object.assign(new Error("x"), { code: "LANE_BROKEN" }),
    "broken",
    "another",
  ],
  ["reset", Object.assign(new Error("x"), { code: "ECONNRESET" }), "broken", "another"],
  ["the client's body", new LlmnodeError("bad_request", "broke off"), "rejected", "none"],
  ["anything", "text", "broken", "another"],
])("a connection's failure: %s", (_, error, outcome, remedy) => {
  expect(connectionFailure(error, "engine")).toMatchObject({ outcome, remedy });
});
