import { expect, test } from "bun:test";
import { ROUTES, routesAt } from "../../../src/proxy/request/routes.ts";
import { LIKES } from "../../../src/sim/core/options.ts";

/** What engines offer for their operators; a client must never reach it. */
const ADMIN = [
  ..."sleep wake_up collective_rpc pause resume reset_prefix_cache start_profile stop_profile".split(
    " ",
  ),
  ..."flush_cache release_memory_occupation update_weights abort_request set_internal_state".split(
    " ",
  ),
  ..."load_lora_adapter unload_lora_adapter v1/load_lora_adapter v1/unload_lora_adapter".split(" "),
  ..."api/pull api/push api/delete api/create api/copy models/load models/unload slots".split(" "),
  ..."lora-adapters props tools cors-proxy release_memory resume_memory terminate wakeup".split(
    " ",
  ),
  ..."scale_elastic_ep invocations server_info metrics health".split(" "),
];

test("no route of the list administers an engine", () => {
  expect(ADMIN.filter((path) => routesAt(`/${path}`).length > 0)).toEqual([]);
});

test("routes are plain paths, known by themselves, and the kinds are those that there are", () => {
  const kinds = new Set([...LIKES, "tei", "trtllm", "lmdeploy", "dynamo"] as string[]);
  for (const [path, route] of ROUTES) {
    expect(path).toMatch(/^(\/[a-z0-9_]+)+$/);
    expect(route.path).toBe(path);
    expect((route.kinds ?? []).filter((kind) => !kinds.has(kind))).toEqual([]);
    expect(route.method === "GET").toBe(route.body === "none");
  }
});

test("only OpenAI's streams are asked for usage", () => {
  const asking = [...ROUTES.values()].filter(({ asksUsage }) => asksUsage);
  expect(asking.map(({ path }) => path)).toEqual(["/v1/chat/completions", "/v1/completions"]);
});

test.each([
  ["/v1/responses", ["POST"]],
  ["/v1/responses/resp_1", ["GET", "DELETE"]],
  ["/v1/responses/resp_1/cancel", ["POST"]],
  ["/v1/responses/resp_1/input_items", ["GET"]],
  ["/v1/responses/resp_1/", []],
  ["/v1/responses/resp_1/other", []],
  ["/v1/responses/../metrics", []],
  ["/v1/responses/a%2fb", []],
  ["/v1/responses/", []],
])("methods at %s", (path, methods) => {
  expect(routesAt(path).map(({ method }) => String(method))).toEqual(methods);
});
