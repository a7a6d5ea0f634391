import { expect, test } from "bun:test";
import { type Generation, generateOne } from "../../../src/engine/ask/generation-probe.ts";
import type { EngineKind, EngineModel } from "../../../src/engine/status.ts";
import { startEngine, type TestEngine } from "../../helpers/engine.ts";

const NEVER = new AbortController().signal;
const MODEL: EngineModel = { id: "m", parent: null, maxModelLen: null, loaded: null };

function generate(
  { port }: { port: number },
  {
    kind = "vllm",
    models = [MODEL],
    signal = NEVER,
    timeoutMs = 5000,
  }: {
    kind?: EngineKind;
    models?: EngineModel[];
    signal?: AbortSignal;
    timeoutMs?: number;
  } = {},
): Promise<Generation> {
  const url = `http://127.0.0.1:${port}`;
  return generateOne({ url, kind, apiKey: "secret", models, timeoutMs }, signal);
}

/** Answers a path with a status, any other with 404. */
function answering(paths: Record<string, number>): TestEngine {
  return startEngine((request) => {
    const status = paths[new URL(request.url).pathname] ?? 404;
    return Response.json({ ok: status }, { status });
  });
}

const asked = (engine: TestEngine) =>
  engine.seen.map(({ method, path, body }) => [`${method} ${path}`, JSON.parse(body) as unknown]);

test.each<[EngineKind, string, unknown]>([
  ["vllm", "/v1/completions", { model: "m", prompt: "a", max_tokens: 1 }],
  ["sglang", "/v1/completions", { model: "m", prompt: "a", max_tokens: 1 }],
  ["llama-server", "/v1/completions", { model: "m", prompt: "a", max_tokens: 1 }],
  ["generic", "/v1/completions", { model: "m", prompt: "a", max_tokens: 1 }],
  ["tgi", "/generate", { inputs: "a", parameters: { max_new_tokens: 1 } }],
  ["tei", "/embed", { inputs: "a" }],
  [
    "ollama",
    "/api/generate",
    { model: "m", prompt: "a", stream: false, options: { num_predict: 1 } },
  ],
])("%s is asked at %s for one token", async (kind, path, body) => {
  await using engine = answering({ [path]: 200 });
  expect(await generate(engine, { kind })).toEqual({ outcome: "token" });
  expect(asked(engine)).toEqual([[`POST ${path}`, body]]);
  expect(engine.seen[0]?.headers.get("authorization")).toBe("Bearer secret");
});

test("a model that only chats, or only embeds, is asked in its own way", async () => {
  await using chats = answering({ "/v1/completions": 400, "/v1/chat/completions": 200 });
  expect(await generate(chats)).toEqual({ outcome: "token" });
  await using embeds = answering({ "/v1/embeddings": 200 });
  expect(await generate(embeds)).toEqual({ outcome: "token" });
  expect(embeds.seen.map(({ path }) => path)).toEqual([
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/embeddings",
  ]);
  await using ranks = answering({ "/embed": 424, "/rerank": 200 });
  expect(await generate(ranks, { kind: "tei" })).toEqual({ outcome: "token" });
});

test("an engine that is only full, or wants another key, tells nothing", async () => {
  for (const status of [401, 403, 429, 503]) {
    await using engine = answering({ "/v1/completions": status });
    expect(await generate(engine)).toEqual({
      outcome: "unknown",
      reason: `POST /v1/completions answers ${status}`,
    });
  }
  await using none = answering({});
  expect(await generate(none)).toMatchObject({ outcome: "unknown" });
});

test("what fails is a failure: an error of its own, a broken connection, silence", async () => {
  await using broken = answering({ "/v1/completions": 500 });
  expect(await generate(broken)).toEqual({
    outcome: "failed",
    reason: "POST /v1/completions answers 500",
  });
  await using silent = startEngine(() => new Promise<Response>(() => undefined));
  expect(await generate(silent, { timeoutMs: 200 })).toEqual({
    outcome: "failed",
    reason: "POST /v1/completions was not answered within 0.2s",
  });
  await using gone = answering({});
  gone.kill();
  expect(await generate(gone)).toMatchObject({ outcome: "failed" });
  // The front end refuses one way, and hangs in the way that its model has.
  await using half = startEngine((request) =>
    new URL(request.url).pathname === "/v1/embeddings"
      ? new Promise<Response>(() => undefined)
      : Response.json({}, { status: 404 }),
  );
  expect(await generate(half, { timeoutMs: 100 })).toMatchObject({ outcome: "failed" });
});

test("no model is loaded for it, and the base is asked before its adapters", async () => {
  await using engine = answering({ "/api/generate": 200, "/v1/completions": 200 });
  const cold = { ...MODEL, id: "cold", loaded: false };
  expect(await generate(engine, { kind: "ollama", models: [cold] })).toEqual({
    outcome: "unknown",
    reason: "it has no model in memory",
  });
  expect(engine.seen).toEqual([]);
  await generate(engine, { kind: "ollama", models: [cold, { ...MODEL, loaded: true }] });
  await generate(engine, { models: [{ ...MODEL, id: "lora", parent: "m" }, MODEL] });
  expect(asked(engine).map(([, body]) => (body as { model: string }).model)).toEqual(["m", "m"]);
});

test("it ends with the examination", async () => {
  await using silent = startEngine(() => new Promise<Response>(() => undefined));
  const over = new AbortController();
  const generating = generate(silent, { signal: over.signal }).then(
    () => "settled",
    () => "aborted",
  );
  over.abort();
  expect(await generating).toBe("aborted");
});
