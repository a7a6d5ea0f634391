import { afterEach, expect, test } from "bun:test";
import {
  FAST,
  type FakeWorker,
  fakeWorker,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { chatAnswer, startEngine, type TestEngine } from "../../helpers/engine.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

async function start(dataDir?: string): Promise<TestHead> {
  return stack.use(await startTestHead(FAST, dataDir === undefined ? {} : { dataDir }));
}

/** A worker whose engine has these models and answers every chat with its first one's name. */
async function serve(
  head: TestHead,
  models: string[],
  kind = "vllm",
): Promise<{ engine: TestEngine; worker: FakeWorker }> {
  const engine = stack.use(
    startEngine((request) => {
      const { pathname } = new URL(request.url);
      if (pathname !== "/api/tags") return chatAnswer(models[0] ?? "");
      return Response.json({ models: models.map((name) => ({ name, model: name, size: 7 })) });
    }),
  );
  const worker = stack.use(fakeWorker(head, { port: engine.port, models }));
  worker.report({ kind });
  for (const model of models) await head.ready(model);
  return { engine, worker };
}

async function admin(head: TestHead, path: string, body?: unknown) {
  const response =
    body === undefined
      ? await fetch(`${head.url}/api/v1/${path}`)
      : await head.post(`/api/v1/${path}`, body);
  const json = (await response.json()) as Record<string, unknown>;
  const error = json["error"] as { code: string; message: string } | undefined;
  return { status: response.status, json, code: error?.code, message: error?.message };
}

async function set(head: TestHead, alias: string, force = false) {
  const answer = await admin(head, "aliases", { alias, force });
  expect([answer.status, answer.message]).toEqual([200, undefined]);
  return answer.json["warnings"] as string[];
}

async function names(head: TestHead): Promise<string[]> {
  const { json } = await admin(head, "aliases");
  return (json["aliases"] as { name: string }[]).map(({ name }) => name);
}

/** What a chat for a model is answered, or the status and code where it is not. */
async function chat(head: TestHead, model: string, more: object = {}) {
  const response = await head.post("/v1/chat/completions", { model, messages: [], ...more });
  const json = (await response.json()) as {
    choices?: { message: { content: string } }[];
    error?: { code: string };
  };
  return json.choices?.[0]?.message.content ?? `${response.status} ${json.error?.code}`;
}

test("an alias counts from the next request on, and so do its changes and its end", async () => {
  const head = await start();
  await serve(head, ["A"]);
  await serve(head, ["B"]);
  expect(await chat(head, "fast")).toBe("404 model_not_found");
  expect(await set(head, "fast=A")).toEqual([]);
  expect(await chat(head, "fast")).toBe("A");
  await set(head, "fast=B");
  expect(await chat(head, "fast")).toBe("B");
  await admin(head, "aliases/remove", { name: "fast" });
  expect(await chat(head, "fast")).toBe("404 model_not_found");
  expect(await admin(head, "aliases/remove", { name: "fast" })).toMatchObject({
    status: 404,
    code: "not_found",
    message: "there is no alias fast",
  });
});

test("weights share the requests, and a target without a replica leaves them to the others", async () => {
  const head = await start();
  const a = await serve(head, ["A"]);
  const b = await serve(head, ["B"]);
  await set(head, "fast=A:80,B:20");
  const answers: string[] = [];
  // In turns: the clients here and the head share one process's connections.
  for (let turn = 0; turn < 6; turn += 1) {
    answers.push(...(await Promise.all(Array.from({ length: 50 }, () => chat(head, "fast")))));
  }
  const toA = answers.filter((answer) => answer === "A").length;
  expect(new Set(answers)).toEqual(new Set(["A", "B"]));
  // 240 are expected; beyond these bounds lies less than one run in a billion.
  expect(toA).toBeGreaterThan(190);
  expect(toA).toBeLessThan(285);
  expect([a.engine.seen.length, b.engine.seen.length]).toEqual([toA, 300 - toA]);
  a.worker.drop();
  await waitFor(
    async () => !(await head.status()).models.some(({ ready, name }) => name === "A" && ready > 0),
    {
      what: "A to be gone",
    },
  );
  const left = await Promise.all(Array.from({ length: 20 }, () => chat(head, "fast")));
  expect(new Set(left)).toEqual(new Set(["B"]));
});

test("a chain goes on to the first model that has a replica, through other aliases too", async () => {
  const head = await start();
  await serve(head, ["C"]);
  expect(await set(head, "fast=A,small")).toEqual([
    "no worker has the model A now",
    "no worker has the model small now",
  ]);
  expect(await set(head, "small=B,C?t=1")).toEqual(["no worker has the model B now"]);
  expect(await chat(head, "fast")).toBe("C");
  await serve(head, ["A"]);
  expect(await chat(head, "fast")).toBe("A");
  expect((await admin(head, "aliases/remove", { name: "small" })).json["warnings"]).toEqual([
    "fast still points to small, which is now read as a model",
  ]);
});

test("who asks for an alias that leads nowhere is told so by the name that was asked for", async () => {
  const head = await start();
  await set(head, "fast=gone");
  const response = await head.post("/v1/chat/completions", { model: "fast", messages: [] });
  expect(response.status).toBe(404);
  expect(await response.json()).toMatchObject({
    error: {
      code: "model_not_found",
      message: expect.stringMatching(/^"fast" is an alias\. .*gone/),
    },
  });
});

test("the engine gets the preset of its own target and nothing else that is new", async () => {
  const head = await start();
  const { engine } = await serve(head, ["Qwen/Qwen3-8B"]);
  await set(
    head,
    "think=gone,Qwen/Qwen3-8B?chat_template_kwargs.enable_thinking=true&temperature=0.60",
  );
  const body =
    '{ "messages":[{"role":"user","content":"\\u00e9 1e2"}], "seed": 1.0,\n "model":"think", "temperature": 0.10, "chat_template_kwargs":{"x":1} }';
  await head.post("/v1/chat/completions", body);
  const expected = body
    .replace('"think"', '"Qwen/Qwen3-8B"')
    .replace('{"x":1}', '{"enable_thinking":true,"x":1}');
  expect(engine.seen.map((one) => one.body)).toEqual([expected]);
});

test("aliases are listed with the models, under their names and with what they lead to", async () => {
  const head = await start();
  await serve(head, ["A", "B"]);
  await set(head, "org/fast=gone,B");
  await set(head, "later=gone");
  const list = (await (await fetch(`${head.url}/v1/models`)).json()) as { data: unknown[] };
  expect(list.data).toEqual([
    expect.objectContaining({ id: "A" }),
    expect.objectContaining({ id: "B" }),
    expect.objectContaining({ id: "org/fast", object: "model", root: "B", parent: "B" }),
  ]);
  for (const id of ["org/fast", "org%2Ffast"]) {
    const one = await fetch(`${head.url}/v1/models/${id}`);
    expect(await one.json()).toMatchObject({ id: "org/fast", parent: "B", owned_by: "llmnode" });
  }
  expect((await fetch(`${head.url}/v1/models/later`)).status).toBe(404);
});

test("Ollama's clients see aliases of Ollama's models, and reach them with a tag too", async () => {
  const head = await start();
  const { engine } = await serve(head, ["llama3:latest"], "ollama");
  await set(head, "fast=llama3");
  await set(head, "other=elsewhere");
  const tags = (await (await fetch(`${head.url}/api/tags`)).json()) as { models: unknown[] };
  expect(tags.models).toEqual([
    { name: "llama3:latest", model: "llama3:latest", size: 7 },
    { name: "fast", model: "fast", size: 7 },
  ]);
  await head.post("/api/chat", '{"model":"fast:latest","stream":false}');
  await head.post("/api/show", '{"name":"fast"}');
  expect(engine.seen.filter(({ method }) => method === "POST").map(({ body }) => body)).toEqual([
    '{"model":"llama3:latest","stream":false}',
    '{"name":"llama3:latest"}',
  ]);
});

test("a name of a model is taken only by force, and a model that comes later is hidden", async () => {
  const head = await start();
  await serve(head, ["A"]);
  await serve(head, ["B"]);
  const refused = await admin(head, "aliases", { alias: "A=B" });
  expect(refused).toMatchObject({ status: 409, code: "refused" });
  expect(refused.message).toContain("A is a model");
  expect(await chat(head, "A")).toBe("A");
  await set(head, "A=B", true);
  expect(await chat(head, "A")).toBe("B");
  const cards = (await (await fetch(`${head.url}/v1/models`)).json()) as { data: { id: string }[] };
  expect(cards.data.map(({ id }) => id)).toEqual(["B", "A"]);
  expect((await admin(head, "aliases")).json["aliases"]).toEqual([
    expect.objectContaining({ name: "A", hides_model: true, models: ["B"] }),
  ]);

  await set(head, "new=B");
  expect(await chat(head, "new")).toBe("B");
  await serve(head, ["new"]);
  expect([await chat(head, "new"), await chat(head, "new")]).toEqual(["B", "B"]);
  const warnings = head.lines.filter((line) => line.includes("hides a model of the same name"));
  expect(warnings).toEqual([expect.stringContaining("alias=new")]);
});

test.each([
  ["a loop", "a=b", ["b=a"], 409, "a would point to itself: a -> b -> a"],
  ["itself", "a=a", [], 409, "a would point to itself: a -> a"],
  ["weights that do not add up", "a=A:80,B:30", [], 400, "add up to 110"],
  ["an empty name", "=A", [], 400, "must not be empty"],
  ["no model", "a=", [], 400, "a needs a model"],
])("%s changes nothing", async (_, alias, before, status, words) => {
  const head = await start();
  for (const spec of before) await set(head, spec);
  const answer = await admin(head, "aliases", { alias });
  expect(answer.status).toBe(status);
  expect(answer.message).toContain(words);
  expect(await names(head)).toEqual(before.map((spec) => spec.slice(0, 1)));
});

test.each([
  [{}, "alias must be a text"],
  [{ alias: 7 }, "alias must be a text"],
  [{ alias: "a=b", force: "yes" }, "force must be true or false"],
])("%j is no alias", async (body, words) => {
  const head = await start();
  const answer = await admin(head, "aliases", body);
  expect([answer.status, answer.code]).toEqual([400, null as never]);
  expect(answer.message).toContain(words);
  expect(await names(head)).toEqual([]);
});

test("web pages and others' machines set no aliases", async () => {
  const head = await start();
  const headers = { "content-type": "application/json", origin: "https://evil.example" };
  const answer = await head.post("/api/v1/aliases", { alias: "a=b" }, { headers });
  expect(answer.status).toBe(403);
  expect(await names(head)).toEqual([]);
});

test("aliases outlive the head, as they were written", async () => {
  const dir = stack.use(tempDir());
  const first = await startTestHead(FAST, { dataDir: dir.path });
  const spec = "think=gone:10,A?chat_template_kwargs.enable_thinking=true&x=a%2Cb:90";
  await set(first, spec);
  await set(first, "fast=A");
  await set(first, "over=A");
  await admin(first, "aliases/remove", { name: "over" });
  const before = (await admin(first, "aliases")).json["aliases"];
  await first[Symbol.asyncDispose]();

  const head = await start(dir.path);
  expect((await admin(head, "aliases")).json["aliases"]).toEqual(before);
  expect(before).toMatchObject([
    { name: "fast", text: "A", hides_model: false },
    {
      name: "think",
      text: spec.slice("think=".length),
      models: ["A", "gone"],
      targets: [
        { model: "gone", weight_percent: 10, preset: {} },
        {
          model: "A",
          weight_percent: 90,
          preset: { "chat_template_kwargs.enable_thinking": true, x: "a,b" },
        },
      ],
    },
  ]);
  await serve(head, ["A"]);
  expect(await chat(head, "fast")).toBe("A");
});

test("the metrics name a request by its alias, and the attempt by the replica's model", async () => {
  const head = await start();
  await serve(head, ["A"]);
  await set(head, "fast=A");
  await chat(head, "fast");
  const text = await (await fetch(`${head.url}/metrics`)).text();
  expect(text).toMatch(/llmnode_requests_total\{[^}]*model="fast"[^}]*\} 1/);
  expect(text).toMatch(/llmnode_attempts_total\{[^}]*model="A"[^}]*\} 1/);
});
