import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import tls from "node:tls";
import { makeCertificate } from "../../../src/head/store/certificate.ts";
import { createRefusalLog } from "../../../src/head/events/refusal-log.ts";
import { JOIN_TOKEN_FILE, parseJoinToken } from "../../../src/protocol/head-files.ts";
import {
  FAST,
  fakeWorker,
  keyOf,
  memoryLog,
  startTestHead,
  type TestHead,
} from "../../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../../helpers/engine.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const ask = { model: "m", messages: [] };
const TLS = { tls: true };

/** A join token with limits, by the head's own API. */
async function made(head: TestHead, wish: object): Promise<string> {
  const response = await head.post("/api/v1/join-tokens", wish);
  return ((await response.json()) as { token: string }).token;
}

test("a session over TLS carries a worker from hello to an answer", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST, TLS);
  await using worker = fakeWorker(head, { ...TLS, port: engine.port, models: ["m"] });
  const { welcome } = await worker.next("welcome");
  expect(welcome.credential).toMatch(/^[0-9a-f]{48}$/);
  await head.ready("m");
  expect((await head.post(CHAT, ask)).status).toBe(200);
});

test("nothing passes in the clear: a listener in between sees no name, no token, no model", async () => {
  await using head = await startTestHead(FAST, TLS);
  const seen: Buffer[] = [];
  const target = head.head.sessionAddress;
  const relay = net.createServer((client) => {
    const upstream = net.connect(target.port, target.host);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.on("data", (bytes) => {
        seen.push(Buffer.from(bytes));
        to.write(bytes);
      });
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const { port } = relay.address() as net.AddressInfo;
  const through = { ...head, head: { ...head.head, sessionAddress: { host: "127.0.0.1", port } } };
  const worker = fakeWorker(through, { ...TLS, models: ["secret-model"] });
  const { welcome } = await worker.next("welcome");
  await waitFor(async () => (await head.status()).workers[0]?.engines.length === 1);
  const text = Buffer.concat(seen).toString("latin1");
  const token = parseJoinToken(head.head.joinToken() ?? "");
  expect(text.length).toBeGreaterThan(500);
  for (const word of ["secret-model", worker.id, token?.secret ?? "?", welcome.credential]) {
    expect([word, text.includes(word)]).toEqual([word, false]);
  }
  await worker[Symbol.asyncDispose]();
  relay.close();
});

test("a man in the middle with a key of his own hears nothing", async () => {
  await using head = await startTestHead(FAST, TLS);
  const { key, cert } = await makeCertificate();
  const heard: Buffer[] = [];
  const man = tls.createServer({ key, cert, ALPNProtocols: ["h2"] }, (socket) => {
    socket.on("data", (bytes) => heard.push(Buffer.from(bytes)));
    socket.on("error", () => socket.destroy());
  });
  man.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => man.listen(0, "127.0.0.1", resolve));
  const { port } = man.address() as net.AddressInfo;
  const there = { ...head, head: { ...head.head, sessionAddress: { host: "127.0.0.1", port } } };
  await using worker = fakeWorker(there, TLS);
  const { refusal } = await worker.next("refusal");
  expect(refusal).toMatchObject({ code: "wrong_fingerprint", retry: false });
  expect(refusal.reason).toStartWith(`what answers at 127.0.0.1:${port} has another key`);
  expect(refusal.hint).toContain("llmnode join-token show");
  await worker.closed;
  expect(heard).toEqual([]);
  man.close();
});

test("a head whose key changed is not trusted by a worker of the old one", async () => {
  await using old = await startTestHead(FAST, TLS);
  const keys = keyOf(old.head.joinToken());
  await using next = await startTestHead(FAST, TLS);
  await using worker = fakeWorker(next, { ...TLS, keys });
  expect((await worker.next("refusal")).refusal.code).toBe("wrong_fingerprint");
  expect((await next.status()).workers).toEqual([]);
});

test("TLS to a head without it, and the other way round, say what is wrong", async () => {
  await using plain = await startTestHead(FAST);
  await using secure = await startTestHead(FAST, TLS);
  await using a = fakeWorker(plain, TLS);
  const first = (await a.next("refusal")).refusal;
  expect([first.code, first.hint]).toEqual([
    "tls_mismatch",
    expect.stringContaining("join --insecure"),
  ]);
  expect(first.reason).toContain("does not speak TLS");
  await using b = fakeWorker(secure);
  const second = (await b.next("refusal")).refusal;
  expect([second.code, second.hint]).toEqual(["tls_mismatch", "leave out --insecure"]);
  expect(second.reason).toContain("speaks TLS");
  expect(plain.lines.join("")).toContain("NOT encrypted");
  expect(secure.lines.join("")).not.toContain("NOT encrypted");
});

test("a port that is silent or closed is no answer, not a wrong key", async () => {
  await using head = await startTestHead(FAST, TLS);
  const silent = net.createServer((socket) => socket.on("error", () => socket.destroy()));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as net.AddressInfo;
  const at = (to: number) => ({
    ...head,
    head: { ...head.head, sessionAddress: { host: "127.0.0.1", port: to } },
  });
  await using waiting = fakeWorker(at(port), TLS);
  await using closed = fakeWorker(at(1), TLS);
  expect(await closed.closed).toBe("connection refused");
  waiting.drop();
  expect(await waiting.closed).toBe("the test");
  expect([waiting.received, closed.received]).toEqual([[], []]);
  silent.close();
});

test("each way to be refused has its code, is logged once per cause, and leaves nothing", async () => {
  await using head = await startTestHead(FAST, TLS);
  const { fingerprint } = keyOf(head.head.joinToken())[0] ?? { fingerprint: "" };
  const used = await made(head, { uses: 1 });
  await using first = fakeWorker(head, { ...TLS, keys: keyOf(used) });
  await first.next("welcome");
  const short = await made(head, { expires_in_ms: 1 });
  await waitFor(async () => {
    const listed = await fetch(`${head.url}/api/v1/join-tokens`, { headers: head.operator });
    return (await listed.text()).includes('"expired"');
  });
  const now = Date.now();
  const cases: [string, Parameters<typeof fakeWorker>[1]][] = [
    ["join_token_missing", { keys: [{ fingerprint, credential: null, joinToken: null }] }],
    ["join_token_wrong", { keys: [{ fingerprint, credential: null, joinToken: "0".repeat(48) }] }],
    [
      "join_token_wrong",
      { keys: [{ fingerprint, credential: null, joinToken: "x".repeat(5000) }] },
    ],
    ["join_token_expired", { keys: keyOf(short) }],
    ["join_token_used_up", { keys: keyOf(used) }],
    ["credential_unknown", { keys: [{ fingerprint, credential: "stolen", joinToken: null }] }],
    ["clock_off", { hello: { sentAt: now - 100_000_000 } }],
    ["version_unsupported", { hello: { protocol: 9, minProtocol: 9 } }],
    ["name_in_use", { hello: { name: first.id, nameChosen: true } }],
  ];
  for (const [code, options] of [...cases, ...cases]) {
    await using worker = fakeWorker(head, { ...TLS, ...options });
    const { refusal } = await worker.next("refusal");
    expect(refusal).toMatchObject({ code, retry: false });
    expect(refusal.reason.length).toBeGreaterThan(10);
    expect(refusal.hint.length).toBeGreaterThan(10);
    await worker.closed;
  }
  expect((await head.status()).workers.map(({ id }) => id)).toEqual([first.id]);
  const told = head.lines.filter((line) => line.includes('level=warn msg="worker refused"'));
  const codes = new Set(cases.map(([code]) => code));
  expect(told.length).toBe(codes.size);
  // Not one secret in the log.
  const log = head.lines.join("");
  for (const secret of [head.head.joinToken(), used, short, "stolen", "0".repeat(48)]) {
    expect(log).not.toContain(parseJoinToken(secret ?? "")?.secret ?? secret ?? "?");
  }
});

test("the refusal log repeats a cause after a while and is bounded", () => {
  const { log, lines } = memoryLog();
  let now = 0;
  const tell = createRefusalLog({ log, now: () => now, repeatMs: 100, maxCauses: 2 });
  const warned = () => lines.filter((line) => line.includes("level=warn")).length;
  const refused = (address: string) => tell({ address, code: "join_token_wrong", reason: "r" });
  refused("a");
  refused("a");
  expect(warned()).toBe(1);
  now = 100;
  refused("a");
  refused("b");
  refused("c");
  expect(warned()).toBe(4);
  refused("b");
  expect(warned()).toBe(4);
  refused("a");
  expect(warned()).toBe(5);
});

test("a worker's credential outlives its join token and the head; a forgotten one does not come back", async () => {
  using dir = tempDir();
  let credential: string;
  let id: string;
  {
    await using head = await startTestHead(FAST, { ...TLS, dataDir: dir.path });
    await using worker = fakeWorker(head, TLS);
    ({ credential } = (await worker.next("welcome")).welcome);
    id = worker.id;
  }
  await using head = await startTestHead(FAST, { ...TLS, dataDir: dir.path });
  const old = head.head.joinToken();
  const post = (path: string, body: object) => head.post(`/api/v1/${path}`, body);
  expect((await post("join-tokens/rotate", {})).status).toBe(200);
  const { fingerprint } = keyOf(old)[0] ?? { fingerprint: "" };
  const hello = { workerId: id };
  const keys = [{ fingerprint, credential, joinToken: keyOf(old)[0]?.joinToken ?? null }];
  await using again = fakeWorker(head, { ...TLS, hello, keys, models: ["m"] });
  expect((await again.next("welcome")).welcome.credential).toBe("");
  expect((await post("workers/forget", { worker: "nobody" })).status).toBe(404);
  expect((await post("workers/forget", { worker: id })).status).toBe(200);
  const { refusal } = await again.next("refusal");
  expect(refusal).toMatchObject({ code: "worker_forgotten", retry: false });
  await again.closed;
  expect((await head.status()).workers).toEqual([]);
  await using back = fakeWorker(head, { ...TLS, hello: { ...hello, epoch: 2 }, keys });
  expect((await back.next("refusal")).refusal.code).toBe("worker_forgotten");
  // One that is gone can be sent away as well.
  expect((await post("workers/forget", { worker: id })).status).toBe(200);
});

test("models that the join token does not allow are not offered, and the worker is told which", async () => {
  await using engine = startEngine(() => chatAnswer("ok"));
  await using head = await startTestHead(FAST, TLS);
  const keys = keyOf(await made(head, { models: "q*" }));
  const models = ["q1", "evil", "gpt-4", "q2"];
  await using worker = fakeWorker(head, { ...TLS, keys, port: engine.port, models });
  await head.ready("q2");
  const { notice } = await worker.next("notice");
  expect(notice).toEqual({
    code: "model_not_allowed",
    text: "its join token allows only models like q*, not evil, gpt-4",
    hint: expect.stringContaining("llmnode join-token create --models"),
  });
  expect((await head.status()).models.map(({ name }) => name)).toEqual(["q1", "q2"]);
  expect((await head.post(CHAT, { ...ask, model: "evil" })).status).toBe(404);
  // A list in pages counts as one.
  const list = { engine: "1", run: "", revision: 99, more: true };
  const model = (id: string) => ({ id, parent: "", card: "" });
  worker.send({ message: "models", models: { ...list, models: [model("evil")] } });
  worker.send({ message: "models", models: { ...list, models: [model("q3")], more: false } });
  await head.ready("q3");
  expect((await head.status()).models.map(({ name }) => name)).toEqual(["q3"]);
  // Where something was allowed, an empty rest is no reason to send the worker away.
  worker.models("evil");
  await waitFor(async () => (await head.status()).models.length === 0);
  expect((await head.status()).workers[0]?.state).toBe("ready");
  expect(worker.received.filter(({ message }) => message === "refusal")).toEqual([]);
});

test("a worker with nothing that is allowed is refused, and an expected model is not announced", async () => {
  await using head = await startTestHead(FAST, TLS);
  const keys = keyOf(await made(head, { models: "q*" }));
  await using worker = fakeWorker(head, { ...TLS, keys });
  await worker.next("welcome");
  worker.report({ state: "STARTING", expectedModels: ["evil"] });
  expect((await head.post(CHAT, { ...ask, model: "evil" })).status).toBe(404);
  worker.models(...Array.from({ length: 20 }, (_, i) => `evil-${i}`));
  const { refusal } = await worker.next("refusal");
  expect(refusal).toMatchObject({ code: "model_not_allowed", retry: false });
  expect(refusal.reason).toContain("evil-4 and 15 more");
  await worker.closed;
  await waitFor(async () => (await head.status()).workers[0]?.state === "left");
});

test("the first join token lies beside the head for its own user, and never in its log", async () => {
  using dir = tempDir();
  await using head = await startTestHead(FAST, { ...TLS, dataDir: dir.path });
  const token = readFileSync(path.join(dir.path, JOIN_TOKEN_FILE), "utf8").trim();
  expect(head.head.joinToken()).toBe(token);
  expect(head.lines.join("")).not.toContain(token.slice(0, 20));
  const status = await (await fetch(`${head.url}/api/v1/status`)).text();
  expect(status).not.toContain(token.slice(0, 20));
});
