// Messages of protocol 2 as its first release put them on the wire lie in test/fixtures/protocol-2:
// for each its bytes in hex, and in JSON what they say. They are never changed. A later binary may
// read more into them (a field that is new has its default), but nothing else.

import { afterEach, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import fc from "fast-check";
import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from "@grpc/grpc-js";
import { decodeFrame, encodeFrame, type LaneFrame } from "../../src/protocol/lane-frames.ts";
import type {
  HeadMessage,
  Hello,
  UnknownMessage,
  WorkerMessage,
} from "../../src/protocol/messages.ts";
import { loadService } from "../../src/protocol/schema.ts";
import { dial } from "../../src/protocol/session-client.ts";
import { startLanes } from "../../src/worker/lanes.ts";
import type { Log } from "../../src/util/log.ts";
import { type LinkOptions, startLink } from "../../src/worker/link.ts";
import { FAST, fakeWorker, keyOf, memoryLog, startTestHead } from "../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";

const DIR = path.resolve(import.meta.dir, "../fixtures/protocol-2");
const join = loadService()["Join"];
if (!join) throw new Error("no Join");

function recorded(name: string): Buffer {
  return Buffer.from(readFileSync(path.join(DIR, `${name}.hex`), "utf8").replace(/\s/g, ""), "hex");
}

function saying(name: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path.join(DIR, `${name}.json`), "utf8")) as Record<
    string,
    unknown
  >;
}

function names(kind: "up" | "down" | "lane"): string[] {
  return readdirSync(DIR)
    .filter((file) => file.startsWith(`${kind}-`) && file.endsWith(".hex"))
    .map((file) => file.slice(0, -".hex".length))
    .sort();
}

/** As the recorded JSON has it: a body's bytes in hex. */
function written(frame: LaneFrame | null): unknown {
  return frame !== null && "bytes" in frame
    ? { ...frame, bytes: Buffer.from(frame.bytes).toString("hex") }
    : frame;
}

test("every message of protocol 2 is recorded", () => {
  const cases = (kind: "up" | "down" | "lane", key: string) =>
    [...new Set(names(kind).map((name) => String(saying(name)[key])))].sort();
  expect(cases("up", "message")).toEqual(["engine", "goodbye", "heartbeat", "hello", "models"]);
  expect(cases("down", "message")).toEqual([
    "drain",
    "examine",
    "heartbeatAck",
    "notice",
    "openLanes",
    "refusal",
    "restartEngine",
    "welcome",
  ]);
  expect(cases("lane", "kind")).toEqual([
    "answer",
    "body",
    "cancel",
    "credit",
    "done",
    "error",
    "request",
  ]);
});

test.each(names("up"))("%s is read as it was meant", (name) => {
  expect(join.requestDeserialize(recorded(name))).toMatchObject(saying(name));
});

test.each(names("down"))("%s is read as it was meant", (name) => {
  expect(join.responseDeserialize(recorded(name))).toMatchObject(saying(name));
});

test.each(names("lane"))("%s is read as it was meant", (name) => {
  expect(written(decodeFrame(recorded(name)))).toMatchObject(saying(name));
});

test("what is said today is the same bytes, so that an old peer understands it", () => {
  const whole = (kind: "up" | "down") => names(kind).filter((name) => !name.endsWith("-least"));
  for (const name of whole("up")) {
    expect([name, join.requestSerialize(saying(name)).equals(recorded(name))]).toEqual([
      name,
      true,
    ]);
  }
  for (const name of whole("down")) {
    expect([name, join.responseSerialize(saying(name)).equals(recorded(name))]).toEqual([
      name,
      true,
    ]);
  }
  for (const name of names("lane")) {
    const frame = decodeFrame(recorded(name));
    if (!frame) throw new Error(name);
    expect([name, Buffer.from(encodeFrame(frame)).equals(recorded(name))]).toEqual([name, true]);
  }
});

/** Field 2047 with three bytes, field 100 with a number: nothing that protocol 2 knows. */
const UNKNOWN = Buffer.from([0xfa, 0x7f, 3, 1, 2, 3, 0xa0, 6, 42]);

/** A recorded message of one case, with fields in it that protocol 2 does not have. */
function withUnknownFields(name: string): Buffer {
  const bytes = recorded(name);
  // Tag and length of the case, then its content.
  const [tag = 0, first = 0, second = 0] = bytes;
  const long = first >= 0x80;
  const length = (long ? (first & 0x7f) + second * 128 : first) + UNKNOWN.length;
  const size = length < 128 ? [length] : [(length & 0x7f) | 0x80, length >> 7];
  return Buffer.concat([Buffer.from([tag, ...size]), bytes.subarray(long ? 3 : 2), UNKNOWN]);
}

/** A case that protocol 2 does not have. */
const UNKNOWN_MESSAGE = Buffer.from([0x7a, 2, 8, 1]);

test.each([...names("up"), ...names("down")])("%s is read with unknown fields in it", (name) => {
  const read = name.startsWith("up-") ? join.requestDeserialize : join.responseDeserialize;
  expect(read(withUnknownFields(name))).toMatchObject(saying(name));
});

/** Sends bytes as they are, over the real client. */
function rawWorker(options: Omit<Parameters<typeof dial>[0], "service">) {
  const service = {
    ...loadService(),
    Join: { ...join, requestSerialize: (bytes: Buffer) => bytes },
  };
  const session = dial({ ...options, service } as unknown as Parameters<typeof dial>[0]);
  return {
    send: (bytes: Buffer) => void session.send(bytes as unknown as WorkerMessage),
    [Symbol.dispose]: () => session.drop("the test is over"),
  };
}

test.each([
  ["as recorded", (name: string) => [recorded(name)]],
  [
    "with what a newer one adds",
    (name: string) => [withUnknownFields(name), UNKNOWN_MESSAGE, Buffer.alloc(0)],
  ],
])("a worker of protocol 2, %s, joins this head and is served", async (_, say) => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST);
  const received: (HeadMessage | UnknownMessage)[] = [];
  const closed: string[] = [];
  using worker = rawWorker({
    head: head.head.sessionAddress,
    tls: false,
    keys: keyOf(head.head.joinToken()),
    onMessage: (message) => received.push(message),
    onClose: (reason) => closed.push(reason),
  });
  const tell = (name: string) => {
    for (const bytes of say(name)) worker.send(bytes);
  };
  using stack = new DisposableStack();
  stack.adopt(
    setInterval(() => tell("up-heartbeat"), 50),
    clearInterval,
  );
  for (const name of ["up-hello-least", "up-engine-least", "up-models-least"]) tell(name);
  const first = await waitFor(() => received.find(({ message }) => message === "welcome"));
  if (first.message !== "welcome") throw new Error("no welcome");
  const { lanePort, laneKey } = first.welcome;
  const lanes = startLanes({
    workerId: "w-recorded",
    address: () => ({ url: `ws://127.0.0.1:${lanePort}/`, ca: null, key: laneKey }),
    maxLanes: 4,
    log: memoryLog().log,
    engine: () => ({ url: `http://127.0.0.1:${engine.port}`, apiKey: null }),
  });
  stack.adopt(lanes, (all) => all.close());
  lanes.add(4);
  await head.ready("recorded-model");
  const answer = await head.post("/v1/chat/completions", { model: "recorded-model", messages: [] });
  expect(answer.status).toBe(200);
  const row = async () => (await head.status()).workers[0];
  expect(await row()).toMatchObject({ name: "recorded", state: "ready", route: "lane" });
  await waitFor(() => received.some(({ message }) => message === "heartbeatAck"));
  tell("up-goodbye");
  await waitFor(async () => (await row())?.state === "left");
  expect(closed).toEqual([]);
});

test("a worker that also speaks newer protocols is welcomed with the version in common", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST);
  await using newer = fakeWorker(head, {
    hello: { protocol: 9, minProtocol: 2 },
    port: engine.port,
    models: ["m"],
  });
  expect((await newer.next("welcome")).welcome.protocol).toBe(2);
  await head.ready("m");
  const answer = await head.post("/v1/chat/completions", { model: "m", messages: [] });
  expect(answer.status).toBe(200);
});

test.each([
  ["newer", { protocol: 9, minProtocol: 3 }, "update llmnode on the head"],
  ["older", { protocol: 1, minProtocol: 1 }, "update llmnode on the worker"],
])("a worker that is too much %s is told which side to update", async (_, hello, hint) => {
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { hello });
  expect((await worker.next("refusal")).refusal).toMatchObject({
    code: "version_unsupported",
    hint,
    retry: false,
  });
  await worker.closed;
  expect((await head.status()).workers).toEqual([]);
});

/** A head that says bytes as they are, over the real server. */
interface RawHead {
  port: number;
  /** What workers said. */
  heard: WorkerMessage[];
  say(bytes: Buffer): void;
}

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.forceShutdown();
});

/** `greeting` answers each hello at once. */
async function rawHead(greeting?: Buffer): Promise<RawHead> {
  const server = new Server();
  servers.push(server);
  const heard: WorkerMessage[] = [];
  let open: ServerDuplexStream<WorkerMessage, Buffer> | null = null;
  const raw = { ...join, responseSerialize: (bytes: Buffer) => bytes };
  server.addService({ ...loadService(), Join: raw } as ReturnType<typeof loadService>, {
    Join(call: ServerDuplexStream<WorkerMessage, Buffer>) {
      open = call;
      call.sendMetadata(new Metadata());
      call.on("data", (message: WorkerMessage) => {
        heard.push(message);
        if (greeting && message.message === "hello") call.write(greeting);
      });
      call.on("end", () => call.end());
      call.on("error", () => call.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, heard, say: (bytes) => void open?.write(bytes) };
}

function linkOptions(head: RawHead, log: Log): LinkOptions {
  const hello = saying("up-hello-least")["hello"] as Hello;
  return {
    head: { host: "127.0.0.1", port: head.port },
    tls: false,
    keys: () => [],
    onVerified() {},
    hello: (epoch) => ({ ...hello, epoch }),
    announce: () => [],
    onMessage() {},
    onRefusal() {},
    log,
    random: () => 0,
    settings: { welcomeTimeoutMs: 3000, refusedRetryMs: 10 },
  };
}

test("this worker stays with a head of protocol 2 that says what newer ones add", async () => {
  const head = await rawHead();
  const messages: (HeadMessage | UnknownMessage)[] = [];
  const refusals: unknown[] = [];
  const { log, lines } = memoryLog();
  await using link = startLink({
    ...linkOptions(head, log),
    onMessage: (message) => messages.push(message),
    onRefusal: (refusal) => refusals.push(refusal),
  });
  await waitFor(() => head.heard.some(({ message }) => message === "hello"));
  head.say(withUnknownFields("down-welcome-least"));
  await waitFor(() => link.connected);
  const told = names("down").filter((name) => !/welcome|refusal/.test(name));
  for (const name of told) {
    head.say(recorded(name));
    head.say(UNKNOWN_MESSAGE);
    head.say(withUnknownFields(name));
  }
  await waitFor(() => messages.length === 3 * told.length);
  expect(messages.filter(({ message }) => message === undefined).length).toBe(told.length);
  for (const name of told) {
    const same = messages.filter(({ message }) => message === saying(name)["message"]);
    expect(same).toMatchObject([saying(name), saying(name)]);
  }
  const sequence = link.beat();
  await waitFor(() =>
    head.heard.some((m) => m.message === "heartbeat" && m.heartbeat.sequence === sequence),
  );
  expect([link.connected, refusals, lines.filter((line) => line.includes("lost"))]).toEqual([
    true,
    [],
    [],
  ]);
});

test("random bytes of a head end a session at worst, and the worker dials again", async () => {
  const head = await rawHead(recorded("down-welcome-least"));
  await using link = startLink(linkOptions(head, memoryLog().log));
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (bytes) => {
      await waitFor(() => link.connected);
      head.say(Buffer.from(bytes));
    }),
    { numRuns: 60 },
  );
  await waitFor(() => {
    const sequence = link.beat();
    return head.heard.some((m) => m.message === "heartbeat" && m.heartbeat.sequence === sequence);
  });
});
