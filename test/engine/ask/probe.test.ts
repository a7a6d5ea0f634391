import { expect, test } from "bun:test";
import { engineClient } from "../../../src/engine/ask/engine-client.ts";
import { probeHealth, probeReady } from "../../../src/engine/ask/probe.ts";
import type { EngineKind } from "../../../src/engine/status.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";

type Routes = Record<string, unknown | (() => Response)>;

const alive = new AbortController().signal;

/** A server that answers with these bodies: text as it is, anything else as JSON. */
function serve(routes: Routes, keys: Array<string | null> = []) {
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      keys.push(request.headers.get("authorization"));
      const { pathname } = new URL(request.url);
      if (!Object.hasOwn(routes, pathname)) return new Response("Not Found", { status: 404 });
      const body = routes[pathname];
      if (typeof body === "function") return body();
      return typeof body === "string" ? new Response(body) : Response.json(body);
    },
  });
}

async function probe(routes: Routes, kind: EngineKind = "generic", healthPath?: string) {
  await using server = serve(routes);
  const target = {
    url: server.url.origin,
    apiKey: null,
    probeTimeoutMs: 2_000,
    answerMaxBytes: 10_000,
    healthPath: healthPath ?? null,
  };
  try {
    const { kind: actual, models, capacity } = await probeReady(target, kind, alive);
    return { kind: actual, models: models.map((model) => model.id), capacity };
  } catch (error) {
    if (error instanceof LlmnodeError) return { code: error.code, message: error.message };
    throw error;
  }
}

const list = (...data: unknown[]) => ({ object: "list", data });
const answer =
  (status: number, body = "") =>
  () =>
    new Response(body, { status });

test("a service is ready when it answers at all, and by its health path where it has one", async () => {
  const cases: [routes: Routes, healthPath: string | null, isReady: boolean][] = [
    [{ "/": answer(500) }, null, true],
    [{ "/": "x".repeat(1_000_000) }, null, true],
    [{}, "/healthz", false],
    [{ "/healthz": answer(204) }, "/healthz", true],
    [{ "/healthz": answer(503) }, "/healthz", false],
  ];
  for (const [routes, healthPath, isReady] of cases) {
    await using server = serve({ "/v1/models": list({ id: "m", owned_by: "vllm" }), ...routes });
    const limits = { apiKey: null, probeTimeoutMs: 2_000, answerMaxBytes: 10_000 };
    const target = { url: server.url.origin, ...limits, healthPath, isService: true };
    const ready = await probeReady(target, "generic", alive).catch(() => null);
    expect(ready).toEqual(isReady ? { kind: "generic", models: [], capacity: null } : null);
    const isWell = await probeHealth(target, "generic", alive).then(
      () => true,
      () => false,
    );
    expect(isWell).toBe(isReady);
  }
});

test("engines are told by their answers", async () => {
  const owners: Array<[string, EngineKind]> = [
    ["vllm", "vllm"],
    ["sglang", "sglang"],
    ["llamacpp", "llama-server"],
    ["tensorrt_llm", "trtllm"],
    ["lmdeploy", "lmdeploy"],
    ["llmnode-sim", "sim"],
  ];
  for (const [owner, kind] of owners) {
    const routes = { "/health": "", "/v1/models": list({ id: "m", owned_by: owner }) };
    expect(await probe(routes)).toMatchObject({ kind, models: ["m"] });
  }
  const card = { id: "org/m", owned_by: "org/m", created: 0 };
  const tgi = { "/health": "", "/v1/models": list(card), "/info": { max_total_tokens: 9 } };
  expect(await probe(tgi)).toMatchObject({ kind: "tgi", models: ["org/m"] });
  const tei = { "/health": "", "/info": { model_id: "e", model_type: {}, max_input_length: 512 } };
  expect(await probe(tei)).toMatchObject({ kind: "tei", models: ["e"] });
  const ollama = {
    "/": "Ollama is running",
    "/v1/models": list({ id: "l:latest", owned_by: "library" }),
    "/api/tags": { models: [{ name: "l:latest" }] },
    "/api/ps": { models: [] },
  };
  expect(await probe(ollama)).toMatchObject({ kind: "ollama", models: ["l:latest"] });
  const dynamo = {
    "/health": { status: "healthy" },
    "/live": { status: "live" },
    "/v1/models": list({ id: "d", owned_by: "nvidia" }),
  };
  expect(await probe(dynamo)).toMatchObject({ kind: "dynamo", models: ["d"] });
  const other = { "/v1/models": list({ id: "x", owned_by: "toString" }) };
  expect(await probe(other)).toMatchObject({ kind: "generic", models: ["x"] });
});

test("what a starting engine answers is told from what is wrong for good", async () => {
  const models = list({ id: "m", owned_by: "vllm" });
  const cases: Array<[Routes, EngineKind, string]> = [
    [{ "/health": answer(503, "loading"), "/v1/models": models }, "sglang", "upstream_unreachable"],
    [{ "/health": "", "/v1/models": list() }, "vllm", "upstream_unreachable"],
    [{ "/health": "", "/v1/models": answer(503) }, "llama-server", "upstream_unreachable"],
    [
      { "/health": { status: "unhealthy" }, "/v1/models": models },
      "dynamo",
      "upstream_unreachable",
    ],
    [{ "/health": answer(500), "/v1/models": models }, "vllm", "upstream_broken"],
    [{ "/health": "", "/v1/models": answer(401) }, "vllm", "upstream_broken"],
    [{ "/health": "", "/v1/models": "<html>" }, "vllm", "upstream_broken"],
    [{ "/health": answer(302), "/v1/models": models }, "vllm", "upstream_broken"],
    [{ "/health": "", "/v1/models": "x".repeat(20_000) }, "vllm", "upstream_broken"],
  ];
  for (const [routes, kind, code] of cases)
    expect(await probe(routes, kind)).toMatchObject({ code });
});

test("a missing health route leaves it to the model list; Ollama is ready without a model", async () => {
  const routes = { "/v1/models": list({ id: "m" }) };
  expect(await probe(routes, "lmdeploy")).toMatchObject({ kind: "lmdeploy", models: ["m"] });
  const ollama = { "/api/tags": { models: null }, "/api/ps": {} };
  expect(await probe(ollama, "ollama")).toMatchObject({ kind: "ollama", models: [] });
});

test("strange model lists do no harm", async () => {
  const strange = list(
    null,
    7,
    { id: 3 },
    { id: "ok", max_model_len: "many", parent: 4 },
    { id: "ok" },
    { id: "es\u001b[31mcape" },
    { id: "x".repeat(600) },
    { id: "__proto__" },
  );
  const routes = { "/health": "", "/v1/models": strange };
  expect(await probe(routes, "vllm")).toMatchObject({ kind: "vllm", models: ["ok", "__proto__"] });
});

test("a card carries what the engine says beside, unless it is large", async () => {
  const large = { id: "large", meta: { text: "x".repeat(3000) } };
  await using server = serve({
    "/health": "",
    "/v1/models": list(
      { id: "a", object: "model", created: 7, owned_by: "vllm", root: "/m", permission: [{}] },
      { id: "plain", object: "model" },
      large,
    ),
  });
  const target = {
    url: server.url.origin,
    apiKey: null,
    probeTimeoutMs: null,
    answerMaxBytes: 1e6,
  };
  const { models } = await probeReady(target, "vllm", alive);
  expect(models.map(({ card }) => card)).toEqual([
    '{"created":7,"owned_by":"vllm","root":"/m"}',
    undefined,
    undefined,
  ]);
});

test("llama.cpp's aliases and router states are read", async () => {
  await using server = serve({
    "/health": "",
    "/v1/models": list(
      { id: "a", aliases: ["b"], meta: { n_ctx: 2048 }, status: { value: "loaded" } },
      { id: "c", status: { value: "unloaded" } },
    ),
  });
  const target = {
    url: server.url.origin,
    apiKey: null,
    probeTimeoutMs: null,
    answerMaxBytes: 1e6,
  };
  const { models } = await probeReady(target, "llama-server", alive);
  const card = '{"aliases":["b"],"meta":{"n_ctx":2048},"status":{"value":"loaded"}}';
  expect(models).toEqual([
    { id: "a", parent: null, maxModelLen: 2048, loaded: true, card },
    { id: "b", parent: null, maxModelLen: 2048, loaded: true, card },
    {
      id: "c",
      parent: null,
      maxModelLen: null,
      loaded: false,
      card: '{"status":{"value":"unloaded"}}',
    },
  ]);
});

test("the key goes along, a proxy in the environment is passed by, silence has an end", async () => {
  const keys: Array<string | null> = [];
  await using server = serve({ "/health": "" }, keys);
  const target = {
    url: server.url.origin,
    apiKey: "k",
    probeTimeoutMs: 1_000,
    answerMaxBytes: 1e6,
  };
  const before = process.env["http_proxy"];
  process.env["http_proxy"] = "http://127.0.0.1:1";
  try {
    await probeHealth(target, "vllm", alive);
  } finally {
    if (before === undefined) delete process.env["http_proxy"];
    else process.env["http_proxy"] = before;
  }
  expect(keys).toEqual(["Bearer k"]);

  await using silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const client = engineClient({
    url: `http://127.0.0.1:${silent.port}`,
    apiKey: null,
    timeoutMs: 50,
    answerMaxBytes: 10,
    signal: alive,
  });
  const error = await client.get("/health").catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: "upstream_timeout" });
});

test("the path that its user names decides whether an engine is well", async () => {
  const models = list({ id: "m", owned_by: "vllm" });
  const cases: Array<[Routes, EngineKind, object]> = [
    [{ "/ok": "", "/health": answer(500), "/v1/models": models }, "vllm", { models: ["m"] }],
    [{ "/ok": answer(204), "/v1/models": models }, "generic", { kind: "vllm", models: ["m"] }],
    // A service that is no engine at all.
    [{ "/ok": "" }, "generic", { kind: "generic", models: [] }],
    [{ "/ok": "", "/v1/models": "<html>" }, "generic", { kind: "generic", models: [] }],
    [{ "/ok": "", "/v1/models": list() }, "generic", { kind: "generic", models: [] }],
    // An engine must serve something whatever the path says.
    [{ "/ok": "", "/v1/models": list() }, "vllm", { code: "upstream_unreachable" }],
    [{ "/v1/models": models }, "generic", { code: "upstream_broken" }],
    [{ "/ok": answer(503) }, "generic", { code: "upstream_unreachable" }],
    [{ "/ok": answer(302) }, "generic", { code: "upstream_broken" }],
  ];
  for (const [routes, kind, expected] of cases) {
    expect(await probe(routes, kind, "/ok")).toMatchObject(expected);
  }
});

test("requests at once are what the engine says, where it says so", async () => {
  const card = (owner: string) => ({
    "/health": "",
    "/v1/models": list({ id: "m", owned_by: owner }),
  });
  const slots = { loads: [{ max_running_requests: 8 }, { max_running_requests: 8 }] };
  const tei = { "/health": "", "/info": { model_id: "e", model_type: {}, max_input_length: 1 } };
  const cases: Array<[Routes, EngineKind, number | null]> = [
    [{ ...card("llamacpp"), "/props": { total_slots: 6 } }, "llama-server", 6],
    [{ ...card("llamacpp"), "/props": { total_slots: "many" } }, "llama-server", null],
    [card("llamacpp"), "llama-server", null],
    [{ ...card("sglang"), "/v1/loads": slots }, "sglang", 20],
    [{ ...card("sglang"), "/v1/loads": answer(500) }, "sglang", null],
    [{ ...card("m"), "/info": { max_concurrent_requests: 128 } }, "tgi", 128],
    [{ ...tei, "/info": { ...tei["/info"], max_concurrent_requests: 512 } }, "tei", 512],
    [card("vllm"), "vllm", null],
  ];
  for (const [routes, kind, capacity] of cases) {
    expect(await probe(routes, kind)).toMatchObject({ kind, capacity });
  }
});
