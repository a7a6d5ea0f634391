import { expect, test } from "bun:test";
import type { EventsJson, RequestsJson } from "../../../src/protocol/watch-json.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { startEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";

async function running(head: TestHead): Promise<RequestsJson["requests"]> {
  const answer = await fetch(`${head.url}/api/v1/requests`);
  return ((await answer.json()) as RequestsJson).requests;
}

/** Sends a frame and then nothing, until it is told to end. */
function slowAnswer(): Response {
  const frame = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n`;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(frame)),
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

test("a request that runs is seen without its words, and can be cancelled", async () => {
  await using engine = startEngine(slowAnswer);
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { hello: { name: "gpu-1" }, port: engine.port, models: ["m"] });
  await head.ready("m");
  const headers = { "content-type": "application/json", "x-request-id": "mine" };
  const body = { model: "m", stream: true, messages: [{ role: "user", content: "a secret" }] };
  const answer = await head.post(CHAT, body, { headers });
  const [row] = await waitFor(async () => {
    const rows = await running(head);
    return rows[0]?.phase === "decode" && rows;
  });
  expect(row).toMatchObject({
    id: "mine",
    model: "m",
    worker: "gpu-1",
    engine: "gpu-1/1",
    attempts: 1,
  });
  expect(JSON.stringify(row)).not.toContain("secret");
  const cancelled = await head.post("/api/v1/requests/cancel", { id: "mine" });
  expect(cancelled.status).toBe(200);
  const text = await answer.text();
  expect(text).toContain('"code":"cancelled"');
  expect(text).not.toContain("[DONE]");
  await waitFor(() => engine.aborted === 1, { what: "the engine to be told" });
  await waitFor(async () => (await running(head)).length === 0);
  expect((await head.post("/api/v1/requests/cancel", { id: "mine" })).status).toBe(404);
  expect((await head.status()).workers[0]?.engines[0]?.replicas[0]?.in_flight).toBe(0);
});

test("a request that waits for a replica can be cancelled too", async () => {
  await using head = await startTestHead({
    ...FAST,
    cluster: { ...FAST.cluster, queueTimeoutMs: 20_000 },
  });
  await using _ = fakeWorker(head, { hello: { name: "gpu-1" }, models: ["m"] });
  await waitFor(async () => (await head.status()).models.length === 1);
  const headers = { "content-type": "application/json", "x-request-id": "waits" };
  const asked = head.post(CHAT, { model: "m", messages: [] }, { headers });
  const [row] = await waitFor(async () => {
    const rows = await running(head);
    return rows.length === 1 && rows;
  });
  expect(row).toMatchObject({ id: "waits", phase: "queued", worker: null, attempts: 0 });
  await head.post("/api/v1/requests/cancel", { id: "waits" });
  const answer = await asked;
  expect([answer.status, await answer.text()]).toEqual([
    503,
    expect.stringContaining('"cancelled"'),
  ]);
  expect((await head.status()).models[0]).toMatchObject({ in_flight: 0 });
});

test("events tell who came and went", async () => {
  await using head = await startTestHead(FAST);
  const worker = fakeWorker(head, { hello: { name: "gpu-1" }, port: 1, models: ["m"] });
  await waitFor(async () => (await head.status()).workers.length === 1);
  await worker[Symbol.asyncDispose]();
  const events = await waitFor(async () => {
    const answer = await fetch(`${head.url}/api/v1/events`);
    const found = ((await answer.json()) as EventsJson).events;
    return found.some(({ kind }) => kind === "lost") && found;
  });
  const kinds = events.filter(({ worker: name }) => name === "gpu-1").map(({ kind }) => kind);
  expect(kinds.slice(0, 2)).toEqual(["joined", "ready"]);
  expect(kinds.slice(-2)).toEqual(["stale", "lost"]);
});
