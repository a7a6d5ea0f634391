import { expect, test } from "bun:test";
import { type ErrorCode, LlmnodeError } from "../../../src/protocol/errors.ts";
import {
  engineErrorBody,
  errorFrame,
  errorResponse,
  HTTP_MEANING,
} from "../../../src/proxy/record/error-answer.ts";
import type { Dialect } from "../../../src/proxy/request/routes.ts";

const broken = new LlmnodeError("upstream_broken", "it broke");
const wrong = new LlmnodeError("bad_request", "no model", { param: "model" });

test.each([
  [
    "openai",
    { error: { message: "no model", type: "invalid_request_error", param: "model", code: null } },
  ],
  [
    "responses",
    { error: { message: "no model", type: "invalid_request_error", param: "model", code: null } },
  ],
  [
    "engine",
    { error: { message: "no model", type: "invalid_request_error", param: "model", code: null } },
  ],
  ["anthropic", { type: "error", error: { type: "invalid_request_error", message: "no model" } }],
  ["ollama", { error: "no model" }],
  ["tgi", { error: "no model", error_type: "invalid_request_error" }],
] as [Dialect, object][])("an error of ours for a client of %s", async (dialect, body) => {
  const response = errorResponse(wrong, dialect);
  expect([response.status, response.headers.get("content-type")]).toEqual([
    400,
    "application/json",
  ]);
  expect(await response.json()).toEqual(body);
});

test.each([
  [
    "openai",
    'data: {"error":{"message":"it broke","type":"upstream_error","param":null,"code":"upstream_broken"}}\n\n',
  ],
  ["tgi", 'data: {"error":"it broke","error_type":"upstream_broken"}\n\n'],
  [
    "anthropic",
    'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"it broke"}}\n\n',
  ],
  [
    "responses",
    'event: error\ndata: {"type":"error","code":"upstream_broken","message":"it broke","param":null}\n\n',
  ],
  ["ollama", '{"error":"it broke"}\n'],
] as [Dialect, string][])("the last frame of a broken stream of %s", (dialect, frame) => {
  expect(errorFrame(broken, dialect)).toBe(frame);
});

test("what can be asked again says when, what cannot says so", () => {
  const wait = new LlmnodeError("no_ready_replica", "soon", { retryAfterMs: 1500 });
  const { status, headers } = errorResponse(wait);
  expect([status, headers.get("retry-after"), headers.get("retry-after-ms")]).toEqual([
    503,
    "2",
    "1500",
  ]);
  const now = errorResponse(new LlmnodeError("overloaded", "x", { retryAfterMs: 0 })).headers;
  expect([now.get("retry-after"), now.get("retry-after-ms")]).toEqual(["1", "1"]);
  const never = errorResponse(new LlmnodeError("not_supported", "x"));
  expect([never.status, never.headers.get("x-should-retry")]).toEqual([501, "false"]);
  const method = errorResponse(new LlmnodeError("method_not_allowed", "x", { allow: "POST" }));
  expect(method.headers.get("allow")).toBe("POST");
});

test("no code is answered with 408, which SDKs repeat, nor with a success", () => {
  for (const code of Object.keys(HTTP_MEANING) as ErrorCode[]) {
    const { status } = errorResponse(new LlmnodeError(code, "x"));
    expect([code, status >= 400, status === 408]).toEqual([code, true, false]);
  }
});

test("an engine's refusal keeps its words; only what it does not say is ours", () => {
  const said = { message: "too long", type: "BadRequestError", param: "n", code: "x" };
  expect(JSON.parse(engineErrorBody("openai", said, 400))).toEqual({ error: said });
  const bare = { message: "boom", type: null, param: null, code: null };
  expect(JSON.parse(engineErrorBody("openai", bare, 500))).toEqual({
    error: { ...bare, type: "server_error" },
  });
  expect(JSON.parse(engineErrorBody("anthropic", bare, 429))).toEqual({
    type: "error",
    error: { type: "rate_limit_error", message: "boom" },
  });
});
