import { expect, test } from "bun:test";
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import type { LogEvent } from "../../../src/protocol/engine-log.ts";
import { startEngine } from "../../helpers/engine.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { waitFor } from "../../helpers/wait.ts";
import { startTestWorker, tempDir, type TestWorkerOptions } from "../../helpers/worker.ts";

/** Prints some lines and stays. */
const PRINTER = ["sh", "-c", "echo one; echo two; exec sleep 60"];
const PATH = "/api/v1/workers/logs";

async function startCluster(options: TestWorkerOptions = {}) {
  await using stack = new AsyncDisposableStack();
  const dir = stack.use(tempDir());
  const head = stack.use(await startTestHead({ ...FAST, logTimeoutMs: 1_000 }));
  const worker = stack.use(
    await startTestWorker(head, dir.path, {
      name: "gpu-1",
      engine: { argv: PRINTER },
      // The port is never opened.
      port: 1,
      ...options,
      settings: { logs: { pollMs: 10, beatMs: 100 }, ...options.settings },
    }),
  );
  await waitFor(async () => (await head.status()).workers.length === 1);
  const [file = ""] = [...new Bun.Glob("workers/*/*/engine.log").scanSync({ cwd: dir.path })];
  const rest = stack.move();
  return {
    head,
    worker,
    file: join(dir.path, file),
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

function get(head: TestHead, query: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${head.url}${PATH}?${query}`, init);
}

function eventsOf(text: string): LogEvent[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line) as LogEvent);
}

/** Collects what a follower gets. */
function collect(response: Response) {
  const got = { text: "", events: (): LogEvent[] => eventsOf(got.text) };
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const piece of response.body ?? []) got.text += decoder.decode(piece);
  })().then(
    () => "ended",
    () => "broken",
  );
  return {
    ended: reading,
    events: got.events,
    lines: () => got.events().flatMap((event) => (event.type === "line" ? event.text : [])),
  };
}

test.each(["auto", "lane"] as const)("a log through the head, data %s", async (data) => {
  await using cluster = await startCluster({ data });
  const { head } = cluster;
  const response = await get(head, "worker=gpu-1&tail=5");
  expect([response.status, response.headers.get("content-type")]).toEqual([
    200,
    "application/x-ndjson",
  ]);
  const events = eventsOf(await response.text());
  expect(events).toEqual([
    { type: "line", text: "one" },
    { type: "line", text: "two" },
    { type: "end" },
  ]);
  const over = new AbortController();
  const query = "worker=gpu-1/1&follow=1&tail=1";
  const follower = collect(await get(head, query, { signal: over.signal }));
  await waitFor(() => follower.lines().length === 1);
  await appendFile(cluster.file, "three\n");
  await waitFor(() => follower.lines().length === 2);
  expect(follower.lines()).toEqual(["two", "three"]);
  over.abort();
  expect(await follower.ended).toBe("broken");
});

test("by name, id, or what an id begins with; others are not there", async () => {
  await using cluster = await startCluster();
  const id = (await cluster.head.status()).workers[0]?.id ?? "";
  for (const worker of ["gpu-1", id, id.slice(0, 8)]) {
    expect((await get(cluster.head, `worker=${worker}`)).status).toBe(200);
  }
  for (const worker of ["", "gpu-2", "gpu-1/2", id.slice(0, 2), "%1b[31m"]) {
    const response = await get(cluster.head, `worker=${worker}`);
    expect(response.status).toBe(404);
    expect(await response.text()).not.toContain("\u001b");
  }
});

test.each([
  ["worker=gpu-1&tail=x", {}, 400],
  ["worker=gpu-1&previous=1", {}, 404],
  ["worker=gpu-1", { method: "POST" }, 405],
  ["worker=gpu-1", { method: "HEAD" }, 405],
  ["worker=gpu-1", { headers: { origin: "http://page.example" } }, 403],
  ["worker=gpu-1", { headers: { host: "page.example" } }, 403],
  ["worker=gpu-1", { headers: { "x-forwarded-for": "10.0.0.1" } }, 403],
])("%s %o is refused with %i", async (query, init, status) => {
  await using cluster = await startCluster();
  const response = await get(cluster.head, query, init as RequestInit);
  await response.text();
  expect(response.status).toBe(status);
});

test("an engine that the worker only watches has no log", async () => {
  await using cluster = await startCluster({
    engine: { attach: "http://127.0.0.1:1" },
    port: null,
  });
  const response = await get(cluster.head, "worker=gpu-1");
  expect(response.status).toBe(409);
  expect(await response.text()).toContain("gpu-1: its engine was started elsewhere (--attach)");
});

test("a follower is told that the worker went, and it is said when one asks then", async () => {
  await using cluster = await startCluster();
  const { head } = cluster;
  const follower = collect(await get(head, "worker=gpu-1&follow=1"));
  await waitFor(() => follower.lines().length === 2);
  await cluster.worker.worker.stop();
  expect(await follower.ended).toBe("ended");
  expect(follower.events().at(-1)).toMatchObject({
    type: "error",
    code: "upstream_unreachable",
    message: "the connection to gpu-1 broke",
  });
  const response = await get(head, "worker=gpu-1");
  expect([response.status, await response.json()]).toMatchObject([
    502,
    { error: { code: "upstream_unreachable", message: "gpu-1 has left" } },
  ]);
});

test("a worker that opens no lane is waited for only so long", async () => {
  await using head = await startTestHead({ ...FAST, logTimeoutMs: 200 });
  await using worker = fakeWorker(head);
  await worker.next("welcome");
  const response = await get(head, `worker=${worker.id}`);
  expect(response.status).toBe(502);
  expect(await response.text()).toContain("has not answered within 0.2s");
});

test("a worker of an older version says that it has no such engine; no engine is asked", async () => {
  await using engine = startEngine(() => new Response("never"));
  await using head = await startTestHead(FAST);
  await using worker = await laneWorker(head, { port: engine.port, models: ["m"] });
  await worker.next("welcome");
  const response = await get(head, `worker=${worker.id}`);
  expect([response.status, engine.seen.length]).toEqual([501, 0]);
  expect(await response.text()).toContain("runs a version that cannot show");
});

test("a head that stops does not wait for followers, and tells them", async () => {
  await using cluster = await startCluster();
  const follower = collect(await get(cluster.head, "worker=gpu-1&follow=1"));
  await waitFor(() => follower.lines().length === 2);
  const began = performance.now();
  await cluster.head.head.stop();
  expect(await follower.ended).toBe("ended");
  expect(follower.events().at(-1)).toMatchObject({ type: "error", code: "shutting_down" });
  // Below `stopTimeoutMs` of FAST.
  expect(performance.now() - began).toBeLessThan(2_500);
});

test("a head has room for so many readers; those that leave make room", async () => {
  await using head = await startTestHead({ ...FAST, maxLogReaders: 1, logTimeoutMs: 5_000 });
  await using worker = fakeWorker(head);
  await worker.next("welcome");
  const over = new AbortController();
  const waiting = get(head, `worker=${worker.id}`, { signal: over.signal }).catch(() => null);
  await waitFor(async () => {
    const response = await get(head, `worker=${worker.id}`, {
      signal: AbortSignal.timeout(100),
    }).catch(() => null);
    return response?.status === 409;
  });
  over.abort();
  await waiting;
  // Freed: it is asked again, which no lane answers.
  await waitFor(async () => {
    const signal = AbortSignal.timeout(300);
    const failed = await get(head, `worker=${worker.id}`, { signal }).catch(() => null);
    return failed === null;
  });
});

test("a reader that takes nothing holds nobody up and is told what it missed", async () => {
  await using cluster = await startCluster({
    settings: { logs: { pollMs: 10, maxBehindBytes: 100_000, skipKeepBytes: 10_000 } },
  });
  const { head } = cluster;
  const slow = await get(head, "worker=gpu-1&follow=1");
  const reader = slow.body?.getReader();
  const quick = collect(await get(head, "worker=gpu-1&follow=1"));
  let total = 0;
  for (let i = 0; i < 40; i += 1) {
    const lines = Array.from({ length: 2_000 }, () => `number ${(total += 1)} ${"x".repeat(90)}`);
    await appendFile(cluster.file, `${lines.join("\n")}\n`);
    const last = lines.at(-1);
    await waitFor(() => quick.lines().at(-1) === last || quick.events().length > 1e6);
  }
  expect((await head.status()).workers).toHaveLength(1);
  let text = "";
  while (!text.includes(`number ${total} `)) {
    const piece = await reader?.read();
    text += Buffer.from(piece?.value ?? []).toString();
  }
  const events = eventsOf(text);
  const numbers = events.flatMap((event) =>
    event.type === "line" && event.text.startsWith("number")
      ? Number(event.text.split(" ")[1])
      : [],
  );
  const missed = events.reduce((sum, one) => sum + (one.type === "left_out" ? one.lines : 0), 0);
  expect(missed).toBeGreaterThan(0);
  expect(numbers.length + missed).toBe(total);
  expect(new Set(numbers).size).toBe(numbers.length);
  await reader?.cancel();
});
