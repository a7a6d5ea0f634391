import { expect, test } from "bun:test";
import { FAST, startTestHead } from "../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../helpers/engine.ts";
import { isRunning, processesWithEnvironment } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { sim, startTestWorker, tempDir } from "../helpers/worker.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({
  model: "m",
  max_tokens: 4,
  messages: [{ role: "user", content: "hi" }],
  ...extra,
});

test("a worker runs its engine and serves it; a stopped one leaves no process and no request", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  await using worker = await startTestWorker(head, dir.path);
  await head.ready("m");
  expect((await head.post(CHAT, ask())).status).toBe(200);
  const [row] = (await head.status()).workers;
  const marked = processesWithEnvironment(`LLMNODE_ENGINE_ID=${row?.id}-1`);
  expect(marked.length).toBe(1);
  await worker.worker.stop();
  expect(marked.some(isRunning)).toBe(false);
  expect((await head.status()).workers[0]?.state).toBe("left");
  expect((await head.post(CHAT, ask())).status).toBe(503);
});

test("stopping waits for running requests", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const engine = { argv: sim("--model", "m", "--itl", "30ms") };
  await using worker = await startTestWorker(head, dir.path, { engine });
  await head.ready("m");
  const response = await head.post(CHAT, ask({ stream: true, max_tokens: 20 }));
  const text = response.text();
  const stopping = worker.worker.stop();
  await waitFor(async () => (await head.status()).workers[0]?.state === "draining");
  expect(await text).toEndWith("data: [DONE]\n\n");
  await stopping;
  expect((await head.status()).workers[0]?.state).toBe("left");
});

test("a second, forced stop does not wait", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const engine = { argv: sim("--model", "m", "--itl", "1s") };
  await using worker = await startTestWorker(head, dir.path, { engine });
  await head.ready("m");
  const response = await head.post(CHAT, ask({ stream: true, max_tokens: 1000 }));
  const text = response.text();
  const force = new AbortController();
  const stopping = worker.worker.stop({ force: force.signal });
  await waitFor(async () => (await head.status()).workers[0]?.state === "draining");
  force.abort();
  await stopping;
  expect(await text).toContain('"code":"upstream_broken"');
});

test("an engine that crashes is reported at once, started again, and serves again", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const supervisor = { startProbeMs: 50, backoffFirstMs: 600, logPollMs: 20 };
  await using _ = await startTestWorker(head, dir.path, {
    engine: { argv: sim("--model", "m", "--fault", "crash-after=8") },
    settings: { supervisor },
  });
  await head.ready("m");
  const response = await head.post(CHAT, ask({ stream: true, max_tokens: 50 }));
  const text = await response.text();
  expect(text).toContain('"code":"upstream_broken"');
  expect(text).not.toContain("[DONE]");
  const engine = async () => (await head.status()).workers[0]?.engines[0];
  await waitFor(async () => (await engine())?.engine_state === "backoff");
  expect((await engine())?.reason).toContain("exited with code 1");
  // It waits until the engine is back.
  expect((await head.post(CHAT, ask())).status).toBe(200);
  expect(await engine()).toMatchObject({ state: "ready", restarts: 1 });
});

test("a head that goes away and comes back finds engines untouched and routing whole", async () => {
  using dir = tempDir();
  using kept = tempDir();
  const first = await startTestHead(FAST, { dataDir: kept.path });
  const http = Number(new URL(first.url).port);
  const session = first.head.sessionAddress.port;
  await using worker = await startTestWorker(first, dir.path);
  await first.ready("m");
  const before = (await first.status()).workers[0];
  const pid = processesWithEnvironment(`LLMNODE_ENGINE_ID=${before?.id}-1`);
  await first[Symbol.asyncDispose]();
  await waitFor(() => worker.log.some((line) => line.includes("lost the head")));
  await using second = await startTestHead(FAST, { http, session, dataDir: kept.path });
  await second.ready("m");
  const after = (await second.status()).workers[0];
  expect([after?.id, after?.name]).toEqual([before?.id, before?.name]);
  expect(processesWithEnvironment(`LLMNODE_ENGINE_ID=${before?.id}-1`)).toEqual(pid);
  expect((await second.post(CHAT, ask())).status).toBe(200);
});

test("a head that is not there is named, and the worker keeps trying", async () => {
  using dir = tempDir();
  using kept = tempDir();
  const gone = await startTestHead(FAST, { dataDir: kept.path });
  const session = gone.head.sessionAddress.port;
  await gone[Symbol.asyncDispose]();
  await using worker = await startTestWorker(gone, dir.path);
  const line = await waitFor(() =>
    worker.log.find((text) => text.includes("cannot reach the head")),
  );
  expect(line).toContain(`127.0.0.1:${session}: connection refused`);
  await using head = await startTestHead(FAST, { session, dataDir: kept.path });
  await head.ready("m");
});

test("an attached engine is served and left alone", async () => {
  using dir = tempDir();
  await using engine = startEngine((request) => {
    const { pathname } = new URL(request.url);
    if (pathname === "/v1/models") return Response.json({ data: [{ id: "m", owned_by: "vllm" }] });
    return pathname === "/health" ? new Response("") : chatAnswer("attached");
  });
  await using head = await startTestHead(FAST);
  const attach = { attach: `http://127.0.0.1:${engine.port}` };
  const worker = await startTestWorker(head, dir.path, { engine: attach });
  await head.ready("m");
  expect(await (await head.post(CHAT, ask())).text()).toContain("attached");
  await worker.worker.stop();
  const direct = await fetch(`http://127.0.0.1:${engine.port}/health`);
  expect(direct.status).toBe(200);
});

test("models that appear later are routed later", async () => {
  using dir = tempDir();
  let names = ["m"];
  await using engine = startEngine((request) => {
    const { pathname } = new URL(request.url);
    if (pathname !== "/v1/models") return chatAnswer("ok");
    return Response.json({ data: names.map((id) => ({ id, owned_by: "vllm" })) });
  });
  await using head = await startTestHead(FAST);
  const attach = { attach: `http://127.0.0.1:${engine.port}` };
  await using _ = await startTestWorker(head, dir.path, { engine: attach });
  await head.ready("m");
  names = ["m", "lora"];
  await head.ready("lora");
  expect((await head.post(CHAT, ask({ model: "lora" }))).status).toBe(200);
});

test("a name that another machine's worker has ends join with the reason, nothing stays", async () => {
  using here = tempDir();
  using there = tempDir();
  await using head = await startTestHead(FAST);
  await using _ = await startTestWorker(head, here.path, { name: "gpu" });
  await head.ready("m");
  await using second = await startTestWorker(head, there.path, { name: "gpu" });
  const error = await second.worker.ended;
  expect([error?.code, error?.message]).toEqual([
    "join_failed",
    "the head refuses this worker: another worker is called gpu",
  ]);
  expect(error?.hints).toEqual(["choose another --name, or leave it out"]);
});

test("two workers on one machine, no flags: two workers, and one that comes back is the same", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  await using first = await startTestWorker(head, dir.path);
  const second = await startTestWorker(head, dir.path);
  await head.ready("m", 2);
  const ids = (await head.status()).workers.map(({ id }) => id).sort();
  expect(new Set(ids).size).toBe(2);
  await second.worker.stop();
  await using _ = await startTestWorker(head, dir.path);
  await head.ready("m", 2);
  expect((await head.status()).workers.map(({ id }) => id).sort()).toEqual(ids);
  expect(first.worker.name).not.toBe(second.worker.name);
});

test("a missing engine program and a taken port are told, and nothing stays", async () => {
  using dir = tempDir();
  await using engine = startEngine(() => chatAnswer("other"));
  await using head = await startTestHead(FAST);
  const missing = startTestWorker(head, dir.path, {
    engine: { argv: ["no-such-engine", "serve"] },
  });
  await expect(missing).rejects.toMatchObject({ code: "engine_not_found" });
  const taken = startTestWorker(head, dir.path, {
    engine: { argv: ["llmnode", "sim", "--port", String(engine.port)] },
  });
  await expect(taken).rejects.toMatchObject({ code: "port_in_use" });
  expect((await head.status()).workers).toEqual([]);
});

test("joining another machine needs a join token, said before anything is started", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST);
  const where = { head: { host: "10.255.255.1", port: 1 } };
  const without = startTestWorker(head, dir.path, { ...where, joinToken: null });
  await expect(without).rejects.toMatchObject({
    code: "join_token_missing",
    message: "joining 10.255.255.1 needs a join token",
  });
  const cut = startTestWorker(head, dir.path, { ...where, joinToken: "abc.def" });
  await expect(cut).rejects.toMatchObject({ code: "usage" });
});
