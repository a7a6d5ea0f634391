import { expect, test } from "bun:test";
import { ROUTE_SETTINGS } from "../../../src/cluster/routing/policies.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";

const CHAT = "/v1/chat/completions";
const FRAMES = ['data: {"choices":[]}\n\n', "data: [DONE]\n\n"];
const JSON_TYPE = { "content-type": "application/json" };
const talk = (...texts: string[]) => ({
  model: "m",
  messages: texts.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content })),
});

/** Sends a request whole; gives the worker that answered. */
async function workerFor(head: TestHead, body: object, headers = {}): Promise<string> {
  const response = await head.post(CHAT, body, { headers: { ...JSON_TYPE, ...headers } });
  await response.arrayBuffer();
  expect(response.status).toBe(200);
  return response.headers.get("x-llmnode-worker") ?? "";
}

async function affinity(head: TestHead): Promise<Record<string, number>> {
  const text = await (await fetch(`${head.url}/metrics`)).text();
  const lines = text.matchAll(/^llmnode_affinity_total\{model="m",result="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, result = "", n]) => [result, Number(n)]));
}

test("conversations stay where their beginning is, and the metrics tell", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using other = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: engine.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: other.port, models: ["m"] });
  await head.ready("m", 2);
  const homes = new Map<string, string>();
  for (const name of ["x", "y", "z", "v", "w"]) {
    const begin = `${name} `.repeat(2000);
    homes.set(begin, await workerFor(head, talk(begin)));
  }
  for (const [begin, home] of homes) {
    expect(await workerFor(head, talk(begin, "a", "b"))).toBe(home);
    expect(await workerFor(head, talk(begin, "a", "b", "c", "d"))).toBe(home);
  }
  expect(await affinity(head)).toEqual({ hit: 10, miss: 5, overridden: 0 });
});

test("who asks why gets the decision in a header, by names and in figures; others do not", async () => {
  await using engine = startEngine(() => eventStream(FRAMES));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { port: engine.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m", 2);
  const asking = { ...JSON_TYPE, "x-llmnode-debug-route": "1" };
  const body = { ...talk("hello ".repeat(1000)), stream: true };
  await (await head.post(CHAT, body)).text();
  const told = await head.post(CHAT, body, { headers: asking });
  await told.text();
  const why = told.headers.get("x-llmnode-debug-route") ?? "";
  expect(why).toStartWith(`auto: ${told.headers.get("x-llmnode-worker")}/1 of 2; `);
  expect(why).toMatch(/pending 0\.000 \+ miss 0\.0\d\d \+ active .* \(hit \d{4}\/\d{4} tokens/);
  expect(why).not.toContain("127.0.0.1");
  const silent = await head.post(CHAT, body);
  await silent.text();
  expect(silent.headers.get("x-llmnode-debug-route")).toBeNull();
  // The engine is not told of what is between the client and the head.
  const seen = engine.seen.map(({ headers }) => headers.get("x-llmnode-debug-route"));
  expect(seen).toEqual([null, null, null]);
});

test("a session is kept together by header or body where the model is told to be sticky", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  const rules = [{ pattern: "m*", policy: "sticky" }] as const;
  await using head = await startTestHead(FAST, { routing: { ...ROUTE_SETTINGS, rules } });
  await using _a = fakeWorker(head, { port: engine.port, models: ["m"] });
  await using _b = fakeWorker(head, { port: engine.port, models: ["m"] });
  await using _c = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m", 3);
  const homes = new Set<string>();
  for (let i = 0; i < 12; i += 1) {
    const session = { "x-session-id": `s${i}` };
    const home = await workerFor(head, talk("hi"), session);
    expect(await workerFor(head, talk("ho"), session)).toBe(home);
    expect(await workerFor(head, { ...talk("hu"), session_id: `s${i}` })).toBe(home);
    expect(await workerFor(head, { ...talk("hu"), user: `s${i}` })).toBe(home);
    homes.add(home);
  }
  expect(homes.size).toBe(3);
  expect(await affinity(head)).toEqual({ hit: 0, miss: 0, overridden: 0 });
});
