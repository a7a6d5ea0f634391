import { afterEach, beforeEach, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeFrame, encodeFrame, type LaneFrame } from "../../../src/protocol/lane-frames.ts";
import { type Lanes, startLanes } from "../../../src/worker/lanes.ts";
import {
  type FakeWorker,
  FAST,
  fakeWorker,
  keyOf,
  memoryLog,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../../helpers/engine.ts";
import { laneWorker } from "../../helpers/lanes.ts";
import { ODD_MESSAGE, ODD_NUMBER } from "../../helpers/odd-messages.ts";
import { helloOf, rawWorker } from "../../helpers/raw-worker.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = (model: string) => ({ model, messages: [] });

/** A head with two workers that behave, one over lanes and one that is reached directly. */
let head: TestHead;
let stack: AsyncDisposableStack;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const engine = stack.use(startEngine(() => chatAnswer("ok")));
  const cluster = { ...FAST.cluster, lostAfterMs: 5000, staleAfterMs: 2000 };
  head = stack.use(await startTestHead({ ...FAST, cluster }));
  stack.use(await laneWorker(head, { port: engine.port, models: ["good-lane"] }));
  stack.use(fakeWorker(head, { port: engine.port, models: ["good-direct"] }));
  await head.ready("good-lane");
  await head.ready("good-direct");
});
afterEach(() => stack.disposeAsync());

function logged(text: string): string[] {
  return head.lines.filter((line) => line.includes("level=warn") && line.includes(text));
}

/** Whoever misbehaves, the others are served, and nothing is left behind or goes to a terminal. */
async function expectUndisturbed(): Promise<void> {
  for (const model of ["good-lane", "good-direct"]) {
    const answer = await head.post(CHAT, ask(model));
    expect([model, answer.status]).toEqual([model, 200]);
    await answer.text();
  }
  for (const path of ["/v1/models", "/metrics", "/api/tags"]) {
    const answer = await fetch(`${head.url}${path}`);
    expect([path, answer.status < 500]).toEqual([path, true]);
    await answer.text();
  }
  await waitFor(async () => (await head.status()).models.every((row) => row.in_flight === 0), {
    what: "no request in flight",
  });
  const internal = head.lines.filter((line) => /level=error|internal error/.test(line));
  expect(internal).toEqual([]);
  // One line each, without escapes.
  expect(
    head.lines.filter((line) => /[\u0000-\u0009\u000b-\u001f\u007f\u009b]/.test(line)),
  ).toEqual([]);
  expect(head.lines.filter((line) => line.indexOf("\n") !== line.length - 1)).toEqual([]);
}

test("random bytes on a session end it or are ignored, before the hello and after", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1, maxLength: 5 }),
      async (greets, messages) => {
        const raw = rawWorker(head);
        if (greets) raw.say(helloOf(raw.id));
        for (const bytes of messages) raw.send(bytes);
        await raw.end();
      },
    ),
    { numRuns: 60 },
  );
  await expectUndisturbed();
});

test("valid messages with extreme values, in any order, harm nobody", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.boolean(),
      ODD_NUMBER,
      fc.array(ODD_MESSAGE, { minLength: 1, maxLength: 8 }),
      async (greets, sentAt, messages) => {
        const raw = rawWorker(head);
        const host = {
          hostname: "\u001b[2J",
          os: "x",
          arch: "y",
          cpus: 2 ** 32 - 1,
          memoryBytes: sentAt,
        };
        if (greets) raw.say(helloOf(raw.id, { host }));
        for (const message of messages) raw.say(message);
        await raw.end();
        expect((await fetch(`${head.url}/api/v1/status`)).status).toBe(200);
      },
    ),
    { numRuns: 80 },
  );
  await expectUndisturbed();
});

test("a worker that announces 100,000 models is refused in words, logged once", async () => {
  for (let i = 0; i < 2; i += 1) {
    await using worker = fakeWorker(head, {
      hello: { workerId: "many-models", name: "many-models", epoch: i + 1 },
    });
    await worker.next("welcome");
    worker.report({ state: "STARTING" });
    for (let page = 0; page < 1000; page += 1) {
      const models = Array.from({ length: 100 }, (_, n) => ({
        id: `m-${page}-${n}`,
        parent: "",
        card: "",
      }));
      worker.send({
        message: "models",
        models: { engine: "1", run: "", revision: 1, models, more: page < 999 },
      });
    }
    expect((await worker.next("refusal")).refusal).toMatchObject({
      code: "bad_message",
      reason: "more than 4096 models",
    });
    await worker.closed;
  }
  expect(logged("more than 4096 models").length).toBe(1);
  expect((await head.status()).models.length).toBe(2);
  await expectUndisturbed();
});

test.each(["its own name", "a model's name"])(
  "a name of 1 MB, %s, ends that session",
  async (whose) => {
    const name = "x".repeat(1_000_000);
    await using worker = fakeWorker(head, whose === "its own name" ? { hello: { name } } : {});
    if (whose === "a model's name") {
      await worker.next("welcome");
      worker.models(name);
    }
    const { refusal } = await worker.next("refusal");
    expect(refusal.reason).toMatch(/^a message of 1\d{6} bytes; at most 16384 are allowed$/);
    await worker.closed;
    expect(head.lines.join("").length).toBeLessThan(100_000);
    await expectUndisturbed();
  },
);

test.each<[string, (token: string) => string | null, string]>([
  ["cut", (token) => token.replace(/^(.{40}).{8}/, "$1"), "join_token_missing"],
  ["changed", (token) => token.replace(/^./, (c) => (c === "0" ? "1" : "0")), "join_token_wrong"],
  [
    "another head's",
    (token) => token.replace(/^[0-9a-f]{48}/, "ab".repeat(24)),
    "join_token_wrong",
  ],
  ["no", () => null, "join_token_missing"],
])("%s join token is refused, logged once", async (_, change, code) => {
  for (let i = 0; i < 2; i += 1) {
    await using worker = fakeWorker(head, { keys: keyOf(change(head.head.joinToken() ?? "")) });
    expect((await worker.next("refusal")).refusal).toMatchObject({ code, retry: false });
    await worker.closed;
  }
  expect(logged(code).length).toBe(1);
  expect((await head.status()).workers.length).toBe(2);
  await expectUndisturbed();
});

test("a token for one worker that another replays is refused over the link", async () => {
  const { fingerprint = "" } = keyOf(head.head.joinToken())[0] ?? {};
  await using first = fakeWorker(head);
  const { credential } = (await first.next("welcome")).welcome;
  const keys = [{ fingerprint, joinToken: null, credential }];
  await using thief = fakeWorker(head, { keys });
  expect((await thief.next("refusal")).refusal.code).toBe("credential_unknown");
  await thief.closed;
  await expectUndisturbed();
});

/** Opens a lane and gives its socket, or null when the head does not let it in. */
function openLane(welcome: { lanePort: number; laneKey: string }, id: string) {
  const socket = new WebSocket(`ws://127.0.0.1:${welcome.lanePort}/`, {
    headers: { authorization: `Bearer ${welcome.laneKey}`, "x-llmnode-worker-id": id },
  });
  socket.binaryType = "arraybuffer";
  return new Promise<WebSocket | null>((resolve) => {
    socket.addEventListener("open", () => resolve(socket));
    socket.addEventListener("close", () => resolve(null));
    socket.addEventListener("error", () => resolve(null));
  });
}

test("a lane with the key of an earlier session is refused, logged once", async () => {
  const hello = { workerId: "renewed-worker", name: "renewed", data: "lane" };
  await using first = fakeWorker(head, { hello });
  const old = (await first.next("welcome")).welcome;
  await using second = fakeWorker(head, { hello: { ...hello, epoch: 2 } });
  const now = (await second.next("welcome")).welcome;
  expect(now.laneKey).not.toBe(old.laneKey);
  for (let i = 0; i < 3; i += 1) expect(await openLane(old, second.id)).toBe(null);
  const another = (await head.status()).workers.find(({ id }) => id !== second.id)?.id ?? "";
  expect(await openLane(now, another)).toBe(null);
  const lane = await openLane(now, second.id);
  expect(lane).not.toBe(null);
  lane?.close();
  expect(logged("without the lane key").length).toBe(1);
  await expectUndisturbed();
});

/** What a hostile worker sends once a request is there; `number` is that of the request. */
type Script = (number: number, socket: WebSocket) => void;

/** A worker with one engine, model "evil", whose lanes do as the script says. */
async function hostile(script: Script): Promise<FakeWorker> {
  const sockets = new Set<WebSocket>();
  let welcome: { lanePort: number; laneKey: string } | null = null;
  const add = async (count: number) => {
    for (let i = 0; i < count && welcome; i += 1) {
      const socket = await openLane(welcome, worker.id);
      if (!socket) continue;
      sockets.add(socket);
      socket.addEventListener("close", () => sockets.delete(socket));
      socket.addEventListener("message", (event) => {
        const frame = decodeFrame(new Uint8Array(event.data as ArrayBuffer));
        if (frame?.kind === "request") script(frame.number, socket);
      });
    }
  };
  const worker: FakeWorker = stack.use(
    fakeWorker(head, {
      hello: { data: "lane" },
      models: ["evil"],
      onMessage(message) {
        if (message.message === "welcome") {
          welcome = message.welcome;
          void add(message.welcome.lanes);
        } else if (message.message === "openLanes") void add(message.openLanes.count);
      },
    }),
  );
  stack.defer(() => {
    welcome = null;
    for (const socket of sockets) socket.terminate();
  });
  worker.report({ port: 1 });
  await head.ready("evil");
  return worker;
}

/** How a request for the hostile worker's model ends: its status and text, or that it broke off. */
async function askEvil(): Promise<[number | null, string]> {
  try {
    const answer = await head.post(CHAT, ask("evil"), { signal: AbortSignal.timeout(5000) });
    return [answer.status, await answer.text()];
  } catch (error) {
    // What breaks in the middle of an answer that is no event stream ends its connection.
    expect(error).toMatchObject({ code: "ECONNRESET" });
    return [null, "broken off"];
  }
}

/** As frames come for themselves: a first and a middle part, and the last one. */
type Part = LaneFrame["kind"] | "end";
const OK: Part[] = ["answer", "body", "end"];

function frameOf(kind: Part, number: number): LaneFrame {
  const bytes = new Uint8Array();
  switch (kind) {
    case "request":
      return requestOf(number, 0);
    case "answer": {
      const fields: [string, string][] = [["content-type", "application/json"]];
      return { kind, number, head: { status: 200, fields }, bytes, isLast: false };
    }
    case "body":
      return { kind, number, bytes: Buffer.from('{"ok":1}'), isLast: false };
    case "end":
      return { kind: "body", number, bytes, isLast: true };
    case "error":
      return { kind, number, error: { code: "EODD", message: "\u001b[2Jodd\r\n" } };
    case "credit":
      return { kind, number, count: 2 ** 32 - 1 };
    case "cancel":
    case "done":
      return { kind, number };
  }
}

const good: Script = (number, socket) => {
  for (const kind of OK) socket.send(encodeFrame(frameOf(kind, number)));
};

test.each<[string, Script]>([
  ["of other numbers", (n, s) => [0, n + 1, 2 ** 32 - 1].forEach((other) => good(other, s))],
  [
    "of endless credit",
    (n, s) => {
      for (let i = 0; i < 50; i += 1) s.send(encodeFrame(frameOf("credit", n)));
    },
  ],
])("frames %s are dropped, and the answer is whole", async (_, script) => {
  await hostile((number, socket) => {
    script(number, socket);
    good(number, socket);
  });
  for (let i = 0; i < 3; i += 1) expect(await askEvil()).toEqual([200, '{"ok":1}']);
  await expectUndisturbed();
});

test("what comes after end reaches nobody", async () => {
  await hostile((number, socket) => {
    for (const kind of ["answer", "body", "end", "body", "end", "error", "done", "body"] as const) {
      socket.send(encodeFrame(frameOf(kind, number)));
    }
  });
  for (let i = 0; i < 3; i += 1) expect(await askEvil()).toEqual([200, '{"ok":1}']);
  await expectUndisturbed();
});

/** By hand: also what is too large to be encoded. */
function body(number: number, size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(6 + size);
  bytes.set([3, 0, number, number >> 8, number >> 16, number >> 24]);
  return bytes;
}

test.each<[string, string, Script]>([
  [
    "a second answer",
    "a second answer",
    (n, s) => {
      s.send(encodeFrame(frameOf("answer", n)));
      s.send(encodeFrame(frameOf("body", n)));
      s.send(encodeFrame(frameOf("answer", n)));
    },
  ],
  ["a body before its answer", "before its answer", (n, s) => s.send(body(n, 1))],
  [
    "an end before its answer",
    "before its answer",
    (n, s) => s.send(encodeFrame(frameOf("end", n))),
  ],
  ["a request", "only heads send: request", (n, s) => s.send(encodeFrame(frameOf("request", n)))],
  ["a cancel", "only heads send: cancel", (n, s) => s.send(encodeFrame(frameOf("cancel", n)))],
  ["what is no frame", "not a frame", (_, s) => s.send(Uint8Array.from([99, 1, 2, 3, 4]))],
  ["text", "not a frame", (_, s) => s.send("hello")],
])("%s closes that lane, logged once", async (_, words, script) => {
  const closed: number[] = [];
  await hostile((number, socket) => {
    socket.addEventListener("close", (event) => closed.push(event.code));
    script(number, socket);
  });
  for (let i = 0; i < 3; i += 1) await askEvil();
  await waitFor(() => closed.length >= 3);
  await waitFor(() => logged("a lane was closed").length === 1);
  expect(logged("a lane was closed")[0]).toContain(words);
  await expectUndisturbed();
});

test("a frame that is too large closes that lane", async () => {
  const closed: number[] = [];
  await hostile((number, socket) => {
    socket.addEventListener("close", (event) => closed.push(event.code));
    socket.send(body(number, 200_000));
  });
  expect((await askEvil())[0]).toBeGreaterThanOrEqual(500);
  await waitFor(() => closed.length > 0);
  await expectUndisturbed();
});

const KINDS = ["request", "cancel", "body", "end", "credit", "answer", "error", "done"] as const;
const STEP = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom(...KINDS),
      shift: fc.constantFrom(0, 0, 0, 0, 1, -1),
    }),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 1, arbitrary: fc.constantFrom(100_000, 200_000) },
);
type Step = { kind: Part; shift: number } | Uint8Array | number;

function encoded(step: Step, number: number): Uint8Array<ArrayBuffer> {
  if (typeof step === "number") return body(number, step);
  if (step instanceof Uint8Array) return Uint8Array.from(step);
  return encodeFrame(frameOf(step.kind, Math.max(0, number + step.shift)));
}

test("random frames of a worker end its own requests at worst", async () => {
  let steps: Step[] = [];
  await hostile((number, socket) => {
    for (const step of steps) socket.send(encoded(step, number));
    // Whatever it was, the request is over now.
    socket.send(encodeFrame({ kind: "done", number }));
  });
  await fc.assert(
    fc.asyncProperty(fc.array(STEP, { maxLength: 12 }), async (next) => {
      steps = next;
      await askEvil();
      expect((await head.post(CHAT, ask("good-lane"))).status).toBe(200);
    }),
    { numRuns: 60 },
  );
  await expectUndisturbed();
});

/** A head that sends what the test says on the lanes that a worker opens. */
async function hostileHead(): Promise<{
  /** Requests that the worker has at its engine. */
  active(): number;
  lanes: Lanes;
  lines: string[];
  /** A lane on which nothing has been sent yet. */
  next(): Promise<LaneEnd>;
}> {
  const fresh: LaneEnd[] = [];
  const ends = new WeakMap<object, LaneEnd>();
  let active = 0;
  const engine = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      active += 1;
      try {
        return new Response(await request.text());
      } finally {
        active -= 1;
      }
    },
    error: () => new Response("its client has gone", { status: 500 }),
  });
  stack.defer(() => engine.stop(true));
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, own) => (own.upgrade(request) ? undefined : new Response("no")),
    websocket: {
      open(socket) {
        const end: LaneEnd = {
          frames: [],
          closed: false,
          send: (bytes) => void socket.send(bytes),
          close: () => socket.terminate(),
        };
        ends.set(socket, end);
        fresh.push(end);
      },
      message(socket, message) {
        const frame = typeof message === "string" ? null : decodeFrame(message);
        if (frame) ends.get(socket)?.frames.push(frame);
      },
      close(socket) {
        const end = ends.get(socket);
        if (end) end.closed = true;
      },
    },
  });
  stack.defer(() => server.stop(true));
  const { log, lines } = memoryLog();
  const lanes = startLanes({
    workerId: "w",
    address: () => ({ url: `ws://127.0.0.1:${server.port}/`, ca: null, key: "k" }),
    maxLanes: 64,
    log,
    engine: () => ({ url: `http://127.0.0.1:${engine.port}`, apiKey: null }),
  });
  stack.defer(() => lanes.close());
  return {
    active: () => active,
    lanes,
    lines,
    next() {
      lanes.add(1);
      return waitFor(() => fresh.shift() ?? null);
    },
  };
}

interface LaneEnd {
  frames: LaneFrame[];
  closed: boolean;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(): void;
}

/** A request in order, on one lane; resolves once its answer is whole. */
async function serveOne(lane: LaneEnd, number: number): Promise<void> {
  const text = `request ${number}`;
  const before = lane.frames.length;
  lane.send(encodeFrame(requestOf(number, text.length)));
  lane.send(
    encodeFrame({ kind: "body", number, bytes: new TextEncoder().encode(text), isLast: true }),
  );
  const answer = () =>
    lane.frames.slice(before).filter((frame) => frame.kind === "answer" || frame.kind === "body");
  await waitFor(() => answer().at(-1)?.isLast === true);
  expect(Buffer.concat(answer().map(({ bytes }) => bytes)).toString()).toBe(text);
}

function requestOf(number: number, length: number | null): LaneFrame {
  const engine = { engine: "1", method: "POST", path: "/v1/x", host: null, fields: "" };
  const head = { ...engine, length, fresh: false };
  return { kind: "request", number, head, bytes: new Uint8Array(), isLast: length === 0 };
}

const text = (number: number, content: string): LaneFrame => ({
  kind: "body",
  number,
  bytes: new TextEncoder().encode(content),
  isLast: false,
});

test.each<[string, string, LaneFrame[]]>([
  ["a request within a request", "out of turn", [requestOf(1, 4), requestOf(2, 0)]],
  ["a number that was there", "out of turn", [requestOf(1, 4), requestOf(1, 4)]],
  ["a request with number 0", "out of turn", [requestOf(0, 0)]],
  ["an answer", "only workers send: answer", [requestOf(1, 4), frameOf("answer", 1)]],
  ["a done", "only workers send: done", [requestOf(1, 4), frameOf("done", 1)]],
  ["more than was announced", "longer than announced", [requestOf(1, 4), text(1, "12345")]],
  ["more after the end", "after its end", [requestOf(1, null), frameOf("end", 1), text(1, "1")]],
  [
    "a body without credit",
    "beyond its credit",
    [
      requestOf(1, null),
      text(1, "hang"),
      ...Array.from({ length: 40 }, () => text(1, "x".repeat(100_000))),
    ],
  ],
])("%s from a head closes that lane of the worker, and no other", async (_, words, frames) => {
  const { active, next, lines } = await hostileHead();
  const other = await next();
  for (let i = 0; i < 2; i += 1) {
    const lane = await next();
    for (const frame of frames) lane.send(encodeFrame(frame));
    // Served no more, even if it came in one piece with what was wrong.
    lane.send(encodeFrame(requestOf(99, 0)));
    await waitFor(() => lane.closed);
  }
  await serveOne(other, 1);
  await serveOne(other, 7);
  await waitFor(() => active() === 0);
  const told = lines.filter((line) => line.includes("level=warn"));
  expect([told.length, told[0]]).toEqual([1, expect.stringContaining(words)]);
});

test("random frames of a head end their own lane at worst, and leave nothing running", async () => {
  const { active, next, lanes } = await hostileHead();
  const other = await next();
  let number = 0;
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(STEP, { maxLength: 12 }), async (begins, steps) => {
      const lane = await next();
      if (begins) {
        lane.send(encodeFrame(requestOf(1, null)));
        lane.send(encodeFrame(text(1, "hang")));
      }
      for (const step of steps) lane.send(encoded(step, 1));
      number += 1;
      await serveOne(other, number);
      lane.close();
    }),
    { numRuns: 60 },
  );
  await waitFor(() => lanes.open === 1, { what: "the lanes are closed" });
  await waitFor(() => active() === 0, { what: "no request at the engine" });
  await serveOne(other, number + 1);
});
