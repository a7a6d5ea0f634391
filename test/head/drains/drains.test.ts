import { expect, test } from "bun:test";
import {
  FAST,
  fakeWorker,
  type FakeWorker,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const chat = (more: object = {}) => ({ model: "m", messages: [], ...more });

interface OrderedJson {
  name: string;
  state: string | null;
  in_flight: number;
  was_ordered: boolean;
  drain: { id: string; stage: string; who: string; deadline: string | null; cut_off: number };
}

interface Answer {
  status: number;
  error?: { code: string; message: string };
  workers: OrderedJson[];
  ended: { name: string; outcome: string; reason: string | null }[];
  last_replicas: { worker: string; name: string }[];
}

async function order(head: TestHead, verb: string, body: object): Promise<Answer> {
  const response = await head.post(`/api/v1/workers/${verb}`, body);
  return { ...((await response.json()) as Omit<Answer, "status">), status: response.status };
}

async function drains(head: TestHead): Promise<Answer> {
  const response = await fetch(`${head.url}/api/v1/workers/drains`);
  return { ...((await response.json()) as Omit<Answer, "status">), status: response.status };
}

async function stateOf(head: TestHead, name: string): Promise<string | undefined> {
  return (await head.status()).workers.find((worker) => worker.name === name)?.state;
}

const becomes = (head: TestHead, name: string, state: string) =>
  waitFor(async () => (await stateOf(head, name)) === state, { what: `${name} to be ${state}` });

const named = (name: string) => ({
  hello: { workerId: `identity-of-${name}`, name, run: `run-${name}` },
});

test("a drained worker gets nothing, is told so, and is back after undrain", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using a = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await using b = fakeWorker(head, { ...named("b"), port: engine.port, models: ["m"] });
  await head.ready("m", 2);
  const answer = await order(head, "drain", { workers: ["a"], who: "ann@desk", message: "driver" });
  expect(answer).toMatchObject({
    status: 200,
    last_replicas: [],
    workers: [{ name: "a", in_flight: 0, was_ordered: false, state: "drained" }],
  });
  expect((await a.next("drain")).drain).toEqual({
    active: true,
    reason: "drain by ann@desk: driver",
  });
  const row = (await head.status()).workers.find(({ name }) => name === "a");
  expect(row).toMatchObject({
    state: "drained",
    reason: "drain by ann@desk: driver",
    drain: { purpose: "drain", who: "ann@desk", message: "driver" },
  });
  const workers = new Set<string | null>();
  for (let i = 0; i < 10; i += 1) {
    const response = await head.post(CHAT, chat());
    workers.add(response.headers.get("x-llmnode-worker"));
    await response.text();
  }
  expect([...workers]).toEqual(["b"]);
  expect(b.received.some(({ message }) => message === "drain")).toBe(false);
  const back = await order(head, "undrain", { workers: ["a"] });
  expect(back.workers[0]).toMatchObject({ name: "a", state: "ready" });
  await head.ready("m", 2);
  await waitFor(() =>
    a.received.some((message) => message.message === "drain" && !message.drain.active),
  );
  const again = await order(head, "undrain", { workers: ["a"] });
  expect(again.workers[0]).toMatchObject({ name: "a", state: "ready", drain: null });
});

test.each([
  ["an unknown worker", { workers: ["a", "nobody"], force: true }, 404, "worker_not_found"],
  ["a prefix of a name", { workers: ["identity-of-"], force: true }, 404, "worker_not_found"],
  ["no worker", { workers: [] }, 400, null],
  ["a name that is none", { workers: [7] }, 400, null],
  ["a deadline of 0", { workers: ["a"], deadline_ms: 0, force: true }, 400, null],
  ["force as text", { workers: ["a"], force: "yes" }, 400, null],
  ["the last replica of m", { workers: ["a"] }, 409, "last_replica"],
])("%s drains nothing", async (_, body, status, code) => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await head.ready("m");
  const answer = await order(head, "drain", body);
  expect([answer.status, answer.error?.code]).toEqual([status, code as string]);
  expect(answer.error?.message).not.toContain("\n");
  if (status === 409) expect(answer.error?.message).toBe("a has the last ready replica of m");
  expect((await drains(head)).workers).toEqual([]);
  expect(await stateOf(head, "a")).toBe("ready");
});

test("the last replica goes with force; a second drain changes nothing; a dry run neither", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await head.ready("m");
  const dry = await order(head, "drain", { workers: ["a"], dry_run: true });
  expect(dry).toMatchObject({ status: 200, last_replicas: [{ worker: "a", name: "m" }] });
  expect(await stateOf(head, "a")).toBe("ready");
  const twice = ["a", "identity-of-a"];
  const first = await order(head, "drain", { workers: twice, force: true, who: "ann" });
  expect(first.workers).toHaveLength(1);
  const second = await order(head, "drain", { workers: ["a"], who: "bob", deadline_ms: 1 });
  expect(second.workers[0]).toMatchObject({ was_ordered: true, drain: { who: "ann" } });
  expect(second.workers[0]?.drain).toEqual(first.workers[0]?.drain as never);
  const restart = await order(head, "restart", { workers: ["a"], force: true });
  expect(restart.error).toMatchObject({ code: "refused" });
});

/** A stream that says one word and ends when `gate` opens. */
const gated = (gate: Promise<void>) =>
  eventStream(
    (async function* () {
      yield 'data: {"choices":[]}\n\n';
      await gate;
      yield "data: [DONE]\n\n";
    })(),
  );

test("what runs goes on to its end, what has not begun moves", async () => {
  const gate = Promise.withResolvers<void>();
  const never = Promise.withResolvers<Response>();
  await using slow = startEngine((_, body) =>
    body.includes('"stream":true') ? gated(gate.promise) : never.promise,
  );
  await using quick = startEngine(() => chatAnswer("from b"));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { ...named("a"), port: slow.port, models: ["m"] });
  await head.ready("m");
  const running = await head.post(CHAT, chat({ stream: true }));
  const waiting = head.post(CHAT, chat());
  await waitFor(() => slow.seen.length === 2);
  await using _b = fakeWorker(head, { ...named("b"), port: quick.port, models: ["m"] });
  await head.ready("m", 2);
  const answer = await order(head, "drain", { workers: ["a"] });
  expect(answer.workers[0]).toMatchObject({ state: "draining", in_flight: 2 });
  const moved = await waiting;
  expect([moved.status, moved.headers.get("x-llmnode-worker")]).toEqual([200, "b"]);
  expect((await drains(head)).workers[0]).toMatchObject({ state: "draining", in_flight: 1 });
  gate.resolve();
  expect(await running.text()).toEndWith("data: [DONE]\n\n");
  await becomes(head, "a", "drained");
  expect((await drains(head)).workers[0]).toMatchObject({ in_flight: 0, drain: { cut_off: 0 } });
  never.resolve(chatAnswer("nobody reads this"));
});

test("what still runs at the deadline is ended with an error, and counted", async () => {
  const gate = Promise.withResolvers<void>();
  await using slow = startEngine(() => gated(gate.promise));
  await using head = await startTestHead(FAST);
  await using _a = fakeWorker(head, { ...named("a"), port: slow.port, models: ["m"] });
  await head.ready("m");
  const running = await head.post(CHAT, chat({ stream: true }));
  await order(head, "drain", { workers: ["a"], deadline_ms: 200, force: true });
  const text = await running.text();
  expect(text).toContain('{"error":');
  expect(text).not.toContain("[DONE]");
  await becomes(head, "a", "drained");
  expect((await drains(head)).workers[0]?.drain.cut_off).toBe(1);
  gate.resolve();
});

test("a drain outlives the head and the worker", async () => {
  using dir = tempDir();
  await using engine = startEngine(() => chatAnswer("hi"));
  const worker = { ...named("a"), port: engine.port, models: ["m"] };
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    await using _ = fakeWorker(head, worker);
    await head.ready("m");
    await order(head, "drain", { workers: ["a"], force: true, who: "ann" });
  }
  await using head = await startTestHead(FAST, { dataDir: dir.path });
  // Before its worker is back it can be seen and taken back.
  expect((await drains(head)).workers[0]).toMatchObject({ name: "a", state: null });
  const later = { ...worker, hello: { ...worker.hello, run: "another life" } };
  await using a = fakeWorker(head, later);
  expect((await a.next("drain")).drain).toEqual({ active: true, reason: "drain by ann" });
  await becomes(head, "a", "drained");
  expect(head.lines.filter((line) => line.includes("worker ready"))).toEqual([]);
  await order(head, "undrain", { workers: ["a"] });
  await head.ready("m");
});

test("an order of an unreadable form is told and does not stop the head", async () => {
  using dir = tempDir();
  const { openStore } = await import("../../../src/head/store/store.ts");
  const { memoryLog } = await import("../../helpers/cluster.ts");
  await using store = openStore({ dir: `${dir.path}/head`, log: memoryLog().log });
  await store.put("drains/x", { purpose: "levitate" }, { durable: true });
  await store[Symbol.asyncDispose]();
  await using head = await startTestHead(FAST, { dataDir: dir.path });
  expect((await drains(head)).workers).toEqual([]);
  expect(head.lines.join("")).toContain("cannot be read");
});

/** A worker that does what a restart asks, after a while, and notes it in `events`. */
function obedient(
  head: TestHead,
  how: { name: string; port: number; events: string[]; end?: "READY" | "FAILED" },
): FakeWorker {
  const { name, port, events, end = "READY" } = how;
  let runs = 0;
  const worker = fakeWorker(head, {
    ...named(name),
    port,
    models: ["m"],
    onMessage(message) {
      if (message.message !== "restartEngine") return;
      runs += 1;
      const run = `${name}-run-${runs}`;
      events.push(`${name} stops`);
      worker.report({ pid: 1, run, state: "STARTING" });
      setTimeout(() => {
        events.push(`${name} ${end}`);
        worker.report({ pid: 1, run, state: end, reason: end === "FAILED" ? "no GPU" : "" });
      }, 50);
    },
  });
  worker.report({ pid: 1 });
  return worker;
}

test("several engines are restarted one after the other, and take requests again", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  const events: string[] = [];
  await using _a = obedient(head, { name: "a", port: engine.port, events });
  await using _b = obedient(head, { name: "b", port: engine.port, events });
  await using _c = obedient(head, { name: "c", port: engine.port, events });
  await head.ready("m", 3);
  const answer = await order(head, "restart", { workers: ["b", "a/1", "identity-of-c"] });
  expect(answer.status).toBe(200);
  await waitFor(async () => (await drains(head)).ended.length === 3);
  expect(events).toEqual(["b stops", "b READY", "a stops", "a READY", "c stops", "c READY"]);
  expect((await drains(head)).ended.map(({ outcome }) => outcome)).toEqual(
    Array(3).fill("restarted"),
  );
  await head.ready("m", 3);
});

test("a restart that fails is the last of its command", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  const events: string[] = [];
  await using _a = obedient(head, { name: "a", port: engine.port, events, end: "FAILED" });
  await using _b = obedient(head, { name: "b", port: engine.port, events });
  await head.ready("m", 2);
  await order(head, "restart", { workers: ["a", "b"] });
  await waitFor(async () => (await drains(head)).ended.length === 2);
  expect((await drains(head)).ended).toMatchObject([
    { name: "a", outcome: "failed", reason: "its engine ended: no GPU" },
    { name: "b", outcome: "failed", reason: "not tried, since the restart of a failed" },
  ]);
  expect(events).toEqual(["a stops", "a FAILED"]);
  expect((await head.status()).workers.map(({ state }) => state)).toEqual(["failed", "ready"]);
});

test("a restart waits for what runs, is refused for a last replica, and can be taken back", async () => {
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(() => gated(gate.promise));
  await using head = await startTestHead(FAST);
  const events: string[] = [];
  await using _a = obedient(head, { name: "a", port: engine.port, events });
  await head.ready("m");
  expect((await order(head, "restart", { workers: ["a"] })).error).toMatchObject({
    code: "last_replica",
    message: "a has the last ready replica of m",
  });
  expect((await order(head, "restart", { workers: ["a/2"] })).error?.message).toBe(
    "a has no engine 2",
  );
  const running = await head.post(CHAT, chat({ stream: true }));
  await order(head, "restart", { workers: ["a"], force: true });
  await becomes(head, "a", "draining");
  expect((await order(head, "drain", { workers: ["a"], force: true })).error?.code).toBe("refused");
  await order(head, "undrain", { workers: ["a"] });
  await becomes(head, "a", "ready");
  gate.resolve();
  await running.text();
  expect(events).toEqual([]);
  expect((await drains(head)).ended).toMatchObject([{ name: "a", outcome: "undrained" }]);
});

test("an engine that its worker only watches is not restarted", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await head.ready("m");
  const answer = await order(head, "restart", { workers: ["a"], force: true });
  expect(answer.error).toMatchObject({ code: "refused" });
  expect(answer.error?.message).toContain("was not started by its worker");
});

test("a head that ends in the middle of restarts finishes them in its next life", async () => {
  using dir = tempDir();
  await using engine = startEngine(() => chatAnswer("hi"));
  const events: string[] = [];
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    await using _b = obedient(head, { name: "b", port: engine.port, events });
    // It hears what it is to do, and nothing comes of it.
    await using a = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
    a.report({ pid: 1, run: "before" });
    await head.ready("m", 2);
    await order(head, "restart", { workers: ["a", "b"] });
    await a.next("restartEngine");
  }
  await using head = await startTestHead(
    { ...FAST, cluster: { ...FAST.cluster, settleMs: 5000 } },
    { dataDir: dir.path },
  );
  await using b = obedient(head, { name: "b", port: engine.port, events });
  await using a = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  a.report({ pid: 1, run: "before" });
  await a.next("restartEngine");
  expect(events).toEqual([]);
  a.report({ pid: 1, run: "after", state: "STARTING" });
  a.report({ pid: 1, run: "after" });
  await waitFor(async () => (await drains(head)).ended.length === 2);
  expect(events).toEqual(["b stops", "b READY"]);
  await head.ready("m", 2);
  expect(b.received.filter(({ message }) => message === "drain")).toHaveLength(2);
});

test("a model that was served lately is known after the head's restart, for its hour", async () => {
  using dir = tempDir();
  await using engine = startEngine(() => chatAnswer("hi"));
  const asks = async (head: TestHead, model: string) => {
    const signal = AbortSignal.timeout(300);
    const body = JSON.stringify(chat({ model }));
    return head.post(CHAT, body, { signal }).then(
      ({ status }) => status,
      () => "waits",
    );
  };
  {
    await using head = await startTestHead({ ...FAST, knownModelsMs: 20 }, { dataDir: dir.path });
    await using _ = fakeWorker(head, { port: engine.port, models: ["m"] });
    await head.ready("m");
  }
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    expect(await asks(head, "never")).toBe(404);
    // It waits for a worker, or is told that there is none now.
    expect(["waits", 503]).toContain(await asks(head, "m"));
  }
  const cluster = { ...FAST.cluster, knownModelMs: 1 };
  await using head = await startTestHead({ ...FAST, cluster }, { dataDir: dir.path });
  expect(await asks(head, "m")).toBe(404);
});

test("a worker that is named twice is taken back once", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await head.ready("m");
  await order(head, "drain", { workers: ["a"], force: true });
  await order(head, "undrain", { workers: ["a", "identity-of-a"] });
  expect((await drains(head)).ended).toHaveLength(1);
});

test("a worker that is sent away takes its drain with it", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _ = fakeWorker(head, { ...named("a"), port: engine.port, models: ["m"] });
  await head.ready("m");
  await order(head, "drain", { workers: ["a"], force: true });
  await head.post("/api/v1/workers/forget", { worker: "a" });
  expect((await drains(head)).workers).toEqual([]);
});

test("an order that is given and taken back at once, many times, leaves nothing", async () => {
  using dir = tempDir();
  await using engine = startEngine(() => chatAnswer("hi"));
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    await using _a = obedient(head, { name: "a", port: engine.port, events: [] });
    await using _b = obedient(head, { name: "b", port: engine.port, events: [] });
    await head.ready("m", 2);
    for (let i = 0; i < 10; i += 1) {
      const verbs = i % 2 === 0 ? ["restart", "undrain", "undrain"] : ["drain", "undrain"];
      await Promise.all(
        verbs.map((verb) => order(head, verb, { workers: ["a", "b"], force: true })),
      );
      await order(head, "undrain", { workers: ["a", "b"] });
    }
    expect((await drains(head)).workers).toEqual([]);
    await head.ready("m", 2);
  }
  await using head = await startTestHead(FAST, { dataDir: dir.path });
  expect((await drains(head)).workers).toEqual([]);
});
