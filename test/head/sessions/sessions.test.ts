import { expect, test } from "bun:test";
import { loadService } from "../../../src/protocol/schema.ts";
import { dial } from "../../../src/protocol/session-client.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, eventStream, startEngine } from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = (extra: object = {}) => ({ model: "m", messages: [], ...extra });

async function rowOf(head: TestHead, id: string) {
  return (await head.status()).workers.find((worker) => worker.id === id);
}

async function inState(head: TestHead, id: string, state: string): Promise<void> {
  await waitFor(async () => (await rowOf(head, id))?.state === state, { what: `${id} ${state}` });
}

test("a worker is welcomed with its name and the times that hold, and its beats are answered", async () => {
  await using engine = startEngine(async () => chatAnswer(await new Promise(() => {})));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  const { welcome } = await worker.next("welcome");
  expect(welcome).toMatchObject({
    protocol: 2,
    version: "0.0.0-test",
    headRun: head.head.id,
    name: worker.id,
    heartbeatIntervalMs: 100,
    staleAfterMs: 500,
    lostAfterMs: 1500,
  });
  await head.ready("m");
  const client = new AbortController();
  const request = head.post(CHAT, ask(), { signal: client.signal }).catch(() => null);
  await waitFor(() =>
    worker.received.some((m) => m.message === "heartbeatAck" && m.heartbeatAck.inFlight === 1),
  );
  client.abort();
  await request;
  await waitFor(() => {
    const last = worker.received.at(-1);
    return last?.message === "heartbeatAck" && last.heartbeatAck.inFlight === 0;
  });
});

test("a stream that does not begin with hello is refused, one that says nothing is ended", async () => {
  await using head = await startTestHead({ ...FAST, helloTimeoutMs: 100 });
  const closed: string[] = [];
  const refusals: unknown[] = [];
  const open = () =>
    dial({
      service: loadService(),
      head: head.head.sessionAddress,
      tls: false,
      keys: [],
      onMessage: (message) => refusals.push(message),
      onClose: (reason) => closed.push(reason),
    });
  open().send({ message: "heartbeat", heartbeat: { sequence: 1 } });
  open();
  await waitFor(() => closed.length === 2);
  expect(refusals).toMatchObject([{ message: "refusal", refusal: { code: "bad_message" } }]);
  expect((await head.status()).workers).toEqual([]);
});

test("a refused worker is told the code, the reason and the way out", async () => {
  await using head = await startTestHead(FAST);
  await using first = fakeWorker(head, { hello: { name: "gpu", nameChosen: true } });
  await first.next("welcome");
  await using second = fakeWorker(head, { hello: { name: "gpu", nameChosen: true } });
  const { refusal } = await second.next("refusal");
  expect(refusal).toEqual({
    code: "name_in_use",
    reason: "another worker is called gpu",
    hint: "choose another --name, or leave it out",
    retry: false,
  });
  await second.closed;
  expect(head.lines.join("")).toContain("name_in_use");
});

test("late messages of a replaced session change nothing", async () => {
  await using head = await startTestHead(FAST);
  await using old = fakeWorker(head, { port: 1, models: ["old"] });
  await old.next("welcome");
  const hello = { workerId: old.id, name: old.id, run: `run-${old.id}`, epoch: 2 };
  await using next = fakeWorker(head, { hello, port: 2, models: ["new"] });
  await next.next("welcome");
  old.models("stolen");
  await waitFor(async () => (await head.status()).models.some(({ name }) => name === "new"));
  await old.closed;
  expect((await head.status()).models.map(({ name }) => name)).toEqual(["new"]);
  expect((await head.status()).workers.length).toBe(1);
});

test("a silent worker gets no requests, is lost in time, and is back with its first word", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  worker.silence();
  await inState(head, worker.id, "stale");
  const refused = await head.post(CHAT, ask());
  expect([refused.status, engine.seen.length]).toEqual([503, 0]);
  await inState(head, worker.id, "lost");
  worker.send({ message: "heartbeat", heartbeat: { sequence: 1000 } });
  await inState(head, worker.id, "ready");
  expect((await head.post(CHAT, ask())).status).toBe(200);
});

test("requests that have not started leave a silent worker, streams that run stay", async () => {
  const gate = Promise.withResolvers<void>();
  await using slow = startEngine((_, body) =>
    body.includes("stream")
      ? eventStream(
          (async function* () {
            yield "data: 1\n\n";
            await gate.promise;
            yield "data: [DONE]\n\n";
          })(),
        )
      : new Promise<Response>(() => {}),
  );
  await using quick = startEngine(() => chatAnswer("quick"));
  await using head = await startTestHead(FAST);
  await using a = fakeWorker(head, { port: slow.port, models: ["m"] });
  await head.ready("m");
  const streaming = await head.post(CHAT, ask({ stream: true }));
  const waiting = head.post(CHAT, ask());
  await waitFor(() => slow.seen.length === 2);
  await using _b = fakeWorker(head, { port: quick.port, models: ["m"] });
  await head.ready("m", 2);
  a.drop();
  const moved = await waiting;
  expect([moved.status, moved.headers.get("x-llmnode-attempts")]).toEqual([200, "2"]);
  await waitFor(() => slow.aborted === 1);
  gate.resolve();
  expect(await streaming.text()).toBe("data: 1\n\ndata: [DONE]\n\n");
});

test("a stream ends with an error once its worker is lost and it has been as silent itself", async () => {
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await new Promise(() => {});
      })(),
    ),
  );
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const streaming = await head.post(CHAT, ask({ stream: true }));
  worker.drop();
  const text = await streaming.text();
  expect(text).toStartWith('data: 1\n\ndata: {"error":');
  expect((await rowOf(head, worker.id))?.state).toBe("lost");
  await waitFor(() => engine.aborted === 1);
});

test("after a goodbye not one request comes, and running ones end", async () => {
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(async () => {
    await gate.promise;
    return chatAnswer("ok");
  });
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const running = head.post(CHAT, ask());
  await waitFor(() => engine.seen.length === 1);
  worker.send({ message: "goodbye", goodbye: { left: false, reason: "bye", deadlineMs: 1000 } });
  await inState(head, worker.id, "draining");
  expect((await head.post(CHAT, ask())).status).toBe(503);
  gate.resolve();
  expect((await running).status).toBe(200);
  await inState(head, worker.id, "drained");
  worker.send({ message: "goodbye", goodbye: { left: true, reason: "bye", deadlineMs: 0 } });
  await inState(head, worker.id, "left");
  expect(engine.seen.length).toBe(1);
});

test("why an engine cannot be reached is shown", async () => {
  await using head = await startTestHead(FAST);
  const elsewhere = {
    host: {
      hostname: "x",
      os: "linux",
      arch: "x64",
      cpus: 1,
      memoryBytes: 1,
      bootId: "other",
      networkNamespace: "n",
    },
  };
  await using far = fakeWorker(head, { hello: elsewhere, models: ["far"] });
  far.report({ port: 1, loopbackOnly: true });
  await using near = fakeWorker(head, { models: ["near"] });
  near.report({ port: 1 });
  await using lost = fakeWorker(head, { models: ["lost"] });
  lost.report({ port: 0 });
  await using sly = fakeWorker(head, { hello: elsewhere, models: ["sly"] });
  sly.report({ port: 1, advertise: "http://10.1.2.3:80" });
  await using odd = fakeWorker(head, { models: ["odd"] });
  odd.report({ port: 1, advertise: "nonsense" });
  await using file = fakeWorker(head, { models: ["file"] });
  file.report({ port: 1, advertise: "file:///etc/hostname" });
  const reason = (id: string) =>
    waitFor(async () => {
      const row = await rowOf(head, id);
      return row?.route === "unreachable" ? row.engines[0]?.reason : null;
    });
  expect(await reason(far.id)).toBe(
    "the engine listens on loopback only: start it with --host 0.0.0.0",
  );
  expect(await reason(near.id)).toStartWith("127.0.0.1:1: connection refused");
  expect(await reason(lost.id)).toBe("its port is not known");
  expect(await reason(sly.id)).toContain("allow it with: llmnode head --allow-advertise 10.1.2.3");
  expect(await reason(odd.id)).toBe("nonsense is not a URL");
  // Without a host to connect to, this once ended the head.
  expect(await reason(file.id)).toBe("file:///etc/hostname is not an http or https URL");
  const response = await head.post(CHAT, ask({ model: "far" }));
  expect(response.status).toBe(503);
  expect(await response.text()).not.toContain("0.0.0.0");
});

test("an engine that becomes reachable is found without anybody saying so", async () => {
  const engine = startEngine(() => chatAnswer("ok"));
  const { port } = engine;
  engine.kill();
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port, models: ["m"] });
  await waitFor(async () => (await rowOf(head, worker.id))?.route === "unreachable");
  await using _ = Bun.serve({
    hostname: "127.0.0.1",
    port,
    fetch: () => chatAnswer("back"),
  }) as unknown as AsyncDisposable;
  await head.ready("m");
  expect((await head.post(CHAT, ask())).status).toBe(200);
});

test("a session message above 16 KiB ends that session and no other", async () => {
  await using head = await startTestHead(FAST);
  await using good = fakeWorker(head, { models: ["m"] });
  await good.next("welcome");
  await using bad = fakeWorker(head);
  await bad.next("welcome");
  bad.models("x".repeat(20_000));
  await bad.closed;
  await inState(head, bad.id, "stale");
  expect((await rowOf(head, good.id))?.state).toBe("starting");
});

test("names from a worker cannot reach a terminal as escapes", async () => {
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: 1 });
  worker.models("ok", "evil\u001b[2J", "two\nlines");
  worker.report({ port: 1, reason: "a\u001b[31mb\r\nc", state: "UNHEALTHY" });
  await waitFor(async () => (await rowOf(head, worker.id))?.engines[0]?.reason === "ab  c");
  expect((await head.status()).models.map(({ name }) => name)).toEqual(["ok"]);
  expect(head.lines.join("")).not.toContain("\u001b");
});
