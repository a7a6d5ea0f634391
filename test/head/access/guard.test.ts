import { expect, test } from "bun:test";
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import OpenAI from "openai";
import { ADMIN_TOKEN_FILE, readLocalAdmin } from "../../../src/protocol/head-files.ts";
import { LlmnodeError } from "../../../src/protocol/errors.ts";
import { FAST, fakeWorker, startTestHead, type TestHead } from "../../helpers/cluster.ts";
import { chatAnswer, startEngine } from "../../helpers/engine.ts";
import { tempDir } from "../../helpers/temp.ts";
import { waitFor } from "../../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const JSON_TYPE = { "content-type": "application/json" };
const bearer = (key: string) => ({ ...JSON_TYPE, authorization: `Bearer ${key}` });

interface Made {
  key: string;
  api_key: { id: string };
  warnings: string[];
}

async function create(head: TestHead, wish: object = {}): Promise<Made> {
  const response = await head.post("/api/v1/keys", wish);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Made;
}

async function revoke(head: TestHead, id: string, purge = false): Promise<number> {
  return (await head.post("/api/v1/keys/revoke", { id, purge })).status;
}

async function codeOf(response: Response): Promise<[number, string | null]> {
  const { error } = (await response.json()) as { error: { code: string | null } };
  return [response.status, error.code];
}

const chat = (head: TestHead, headers: Record<string, string> = JSON_TYPE, model = "m") =>
  head.post(CHAT, { model, messages: [] }, { headers });

test("with the first key inference needs one, at once; no other request reaches a worker", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  expect((await chat(head)).status).toBe(200);
  expect((await chat(head, bearer("test-token"))).status).toBe(200);
  const { key, api_key: made } = await create(head, { name: "alice" });
  const seen = engine.seen.length;
  const none = await chat(head);
  expect(none.headers.get("www-authenticate")).toBe("Bearer");
  expect(await codeOf(none)).toEqual([401, null]);
  expect(await codeOf(await chat(head, bearer("test-token")))).toEqual([401, "invalid_api_key"]);
  expect((await chat(head, { ...JSON_TYPE, authorization: "Basic dTpw" })).status).toBe(401);
  expect((await chat(head, { ...bearer(key), "x-api-key": "other" })).status).toBe(400);
  expect((await fetch(`${head.url}/v1/models`)).status).toBe(401);
  expect(engine.seen.length).toBe(seen);
  expect((await chat(head, bearer(key))).status).toBe(200);
  expect((await chat(head, { ...JSON_TYPE, "x-api-key": key })).status).toBe(200);
  for (const { headers } of engine.seen) {
    expect([headers.get("authorization"), headers.get("x-api-key")]).toEqual([null, null]);
  }
  expect(await revoke(head, made.id)).toBe(200);
  expect(await codeOf(await chat(head, bearer(key)))).toEqual([401, "invalid_api_key"]);
  // A mistake must not open the head: it takes a word to go back.
  expect((await chat(head)).status).toBe(401);
  expect(await revoke(head, made.id, true)).toBe(200);
  expect((await chat(head)).status).toBe(200);
});

test("a key outlives the head, and an expired one says so", async () => {
  using dir = tempDir();
  let key = "";
  let brief = "";
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    ({ key } = await create(head));
    ({ key: brief } = await create(head, { expires_in_ms: 50 }));
  }
  await using head = await startTestHead(FAST, { dataDir: dir.path });
  const models = (shown: string) => fetch(`${head.url}/v1/models`, { headers: bearer(shown) });
  expect((await models(key)).status).toBe(200);
  await waitFor(async () => (await models(brief)).status === 401);
  expect(await (await models(brief)).text()).toContain("expired at 20");
});

test("a key for some models sees and gets these alone, aliases by their own names", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using _worker = fakeWorker(head, { port: engine.port, models: ["qwen-a", "llama"] });
  await head.ready("llama");
  await head.post("/api/v1/aliases", { alias: "fast=llama" });
  const made = await create(head, { models: ["qwen*", "fast", "soon"] });
  expect(made.warnings).toEqual(["no worker has a model soon now"]);
  const headers = bearer(made.key);
  const listed = await fetch(`${head.url}/v1/models`, { headers });
  const { data } = (await listed.json()) as { data: { id: string }[] };
  expect(data.map(({ id }) => id)).toEqual(["qwen-a", "fast"]);
  expect((await fetch(`${head.url}/v1/models/qwen-a`, { headers })).status).toBe(200);
  expect((await chat(head, headers, "fast")).status).toBe(200);
  // The very same words for what is hidden and for what is not there.
  const told = async (answer: Promise<Response>) => {
    const response = await answer;
    return [response.status, (await response.text()).replace(/llama|other/g, "x")];
  };
  const one = (model: string) => fetch(`${head.url}/v1/models/${model}`, { headers });
  expect(await told(one("llama"))).toEqual(await told(one("other")));
  expect(await told(chat(head, headers, "llama"))).toEqual(
    await told(chat(head, headers, "other")),
  );
  expect((await chat(head, headers, "llama")).status).toBe(404);
  // What any engine could answer is not for a key of some models.
  const any = await head.post("/tokenize", { prompt: "x" }, { headers });
  expect(any.status).toBe(400);
});

test("OpenAI's client is told what is wrong with its key", async () => {
  await using head = await startTestHead(FAST, { access: "keys" });
  const ask = (apiKey: string) =>
    new OpenAI({ apiKey, baseURL: `${head.url}/v1`, maxRetries: 0 }).models.list().then(
      () => "fine",
      (error: unknown) => error,
    );
  expect(await ask("nobody")).toBeInstanceOf(OpenAI.AuthenticationError);
  const { key } = await create(head);
  expect(await ask(key)).toBe("fine");
  expect(await ask(`${key.slice(0, -1)}_`)).toMatchObject({ code: "invalid_api_key", status: 401 });
});

test("roles: what each key may ask of a real head", async () => {
  await using head = await startTestHead(FAST, { insecure: false });
  const [user, viewer, operator] = await Promise.all(
    ["user", "viewer", "operator"].map(async (role) => (await create(head, { role })).key),
  );
  const drain = (key: string | undefined) =>
    head.post("/api/v1/workers/drain", { workers: ["x"] }, { headers: bearer(key ?? "") });
  expect((await drain(user)).status).toBe(403);
  expect((await drain(viewer)).status).toBe(403);
  // It may, but there is no such worker.
  expect((await drain(operator)).status).toBe(404);
  expect((await head.post("/api/v1/keys", {}, { headers: JSON_TYPE })).status).toBe(401);
  const get = (where: string, key?: string, more: Record<string, string> = {}) =>
    fetch(`${head.url}${where}`, { headers: { ...(key ? bearer(key) : {}), ...more } });
  const through = { "x-forwarded-for": "203.0.113.9" };
  for (const where of ["/api/v1/status", "/metrics", "/v1/dnt/table"]) {
    expect((await get(where)).status).toBe(200);
    expect((await get(where, undefined, through)).status).toBe(401);
    expect((await get(where, user, through)).status).toBe(403);
    expect((await get(where, viewer, through)).status).toBe(200);
  }
  expect((await get("/api/v1/keys", operator, through)).status).toBe(403);
  expect((await get("/api/v1/nothing", operator)).status).toBe(404);
  expect((await get("/nothing")).status).toBe(404);
});

test("choosing a worker and explanations are for operators, once there are keys", async () => {
  await using engine = startEngine(() => chatAnswer("hi"));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { port: engine.port, models: ["m"] });
  await head.ready("m");
  const pin = { "x-llmnode-worker": worker.id };
  const why = { "x-llmnode-debug-route": "1" };
  expect((await chat(head, { ...JSON_TYPE, ...pin, ...why })).status).toBe(200);
  const { key: user } = await create(head);
  const { key: operator } = await create(head, { role: "operator" });
  const seen = engine.seen.length;
  expect((await chat(head, { ...bearer(user), ...pin })).status).toBe(403);
  expect((await chat(head, { ...bearer(user), ...why })).status).toBe(403);
  const pinned = `/v1/p2p/${worker.id}/v1/_service/llm${CHAT}`;
  const body = { model: "m", messages: [] };
  expect((await head.post(pinned, body, { headers: bearer(user) })).status).toBe(403);
  expect(engine.seen.length).toBe(seen);
  expect((await head.post(pinned, body, { headers: bearer(operator) })).status).toBe(200);
  const told = await chat(head, { ...bearer(operator), ...pin, ...why });
  expect([told.status, told.headers.has("x-llmnode-debug-route")]).toEqual([200, true]);
});

test("with a port of their own, operators are answered there alone", async () => {
  await using head = await startTestHead(FAST, {
    adminListen: { host: "127.0.0.1", port: 0 },
    public: { status: true },
  });
  const admin = head.head.adminUrl ?? "";
  expect(readLocalAdmin(head.dataDir)).toMatchObject({ url: head.url, adminUrl: admin });
  const status = (url: string, where: string) =>
    fetch(url + where, { headers: head.operator }).then((response) => response.status);
  expect(await status(head.url, "/api/v1/status")).toBe(200);
  expect(await status(admin, "/api/v1/status")).toBe(200);
  for (const where of ["/v1/dnt/table", "/metrics", "/api/v1/keys", "/api/v1/join-tokens"]) {
    expect([where, await status(head.url, where)]).toEqual([where, 404]);
    expect([where, await status(admin, where)]).toEqual([where, 200]);
  }
  for (const url of [head.url, admin]) {
    expect(await status(url, "/health/ready")).toBe(200);
    expect(await status(url, "/v1/models")).toBe(200);
  }
  const body = JSON.stringify({ model: "m", messages: [] });
  const chatThere = await fetch(admin + CHAT, { method: "POST", body, headers: JSON_TYPE });
  expect(chatThere.status).toBe(404);
});

test("bad keys are answered later and later; good ones never wait", async () => {
  await using head = await startTestHead(FAST);
  const { key } = await create(head);
  const models = (shown: string) => fetch(`${head.url}/v1/models`, { headers: bearer(shown) });
  const bad = key.slice(0, -4) + "0000";
  for (let i = 0; i < 4; i += 1) expect((await models(bad)).status).toBe(401);
  // By now the next one waits for some 400 ms.
  const order: string[] = [];
  const slow = models(bad).then((response) => order.push(`bad ${response.status}`));
  await models(key).then((response) => order.push(`good ${response.status}`));
  await slow;
  expect(order).toEqual(["good 200", "bad 401"]);
});

test("what operators do is written down, what they try too, and never a secret", async () => {
  await using head = await startTestHead(FAST);
  const { key, api_key: made } = await create(head, { name: "ops", role: "operator" });
  const headers = bearer(key);
  await head.post("/api/v1/workers/drain", { workers: ["gpu-9"] }, { headers });
  await head.post("/api/v1/join-tokens", { note: "for bob" }, { headers });
  await fetch(`${head.url}/api/v1/join-tokens`, { headers });
  const answer = await fetch(`${head.url}/api/v1/audit?limit=10`, { headers });
  const { entries } = (await answer.json()) as { entries: Record<string, unknown>[] };
  expect(entries.map(({ who, action, result }) => [who, action, result])).toEqual([
    ["admin token", "POST /api/v1/keys", "ok"],
    [`key ${made.id} (ops)`, "POST /api/v1/workers/drain", "worker_not_found"],
    [`key ${made.id} (ops)`, "POST /api/v1/join-tokens", "ok"],
  ]);
  expect(entries[0]).toMatchObject({ target: { id: made.id, name: "ops", role: "operator" } });
  expect(entries[1]).toMatchObject({ target: { workers: ["gpu-9"] }, address: "127.0.0.1" });
  const secrets = [key.slice(-20), head.operator["authorization"]?.slice(-20) ?? ""];
  const file = readFileSync(path.join(head.dataDir, "head/audit.jsonl"), "utf8");
  for (const secret of secrets) {
    expect(file + head.lines.join("\n")).not.toContain(secret);
  }
  for (const query of ["limit=-1", "limit=x", "since_ms=1e99", "limit=99999999"]) {
    const refused = await fetch(`${head.url}/api/v1/audit?${query}`, { headers });
    expect([query, refused.status]).toEqual([query, 400]);
  }
});

test.each([
  ["a limit of nothing", { requests_per_minute: 0 }],
  ["a negative limit", { tokens_per_minute: -5 }],
  ["half a request", { concurrency: 0.5 }],
  ["a huge limit", { tokens_per_day: 1e13 }],
  ["a limit as text", { concurrency: "2" }],
  ["an end in the past", { expires_in_ms: -1 }],
  ["an end beyond all days", { expires_in_ms: 1e13 }],
  ["an unknown role", { role: "root" }],
  ["the role of the token", { role: "admin" }],
  ["no models", { models: [] }],
  ["models as text", { models: "m" }],
  ["a model that writes to the terminal", { models: ["a\u001b[31m"] }],
  ["a long name", { name: "x".repeat(201) }],
])("%s makes no key", async (_, wish) => {
  await using head = await startTestHead(FAST);
  const refused = await head.post("/api/v1/keys", wish);
  expect(refused.status).toBe(400);
  expect((await refused.text()).split("\n").length).toBe(1);
  expect((await fetch(`${head.url}/v1/models`)).status).toBe(200);
});

test("the admin token is made once, for its owner alone; a restored copy is closed again", async () => {
  using dir = tempDir();
  const file = path.join(dir.path, ADMIN_TOKEN_FILE);
  const mode = (name: string) => statSync(path.join(dir.path, "head", name)).mode & 0o777;
  {
    await using _head = await startTestHead(FAST, { dataDir: dir.path });
    expect(mode("admin-token")).toBe(0o600);
  }
  expect(readLocalAdmin(dir.path)).toMatchObject({ token: readFileSync(file, "utf8").trim() });
  const before = readFileSync(file, "utf8");
  for (const name of ["admin-token", "identity.pem", "store.sqlite", "join-token"]) {
    chmodSync(path.join(dir.path, "head", name), 0o644);
  }
  {
    await using head = await startTestHead(FAST, { dataDir: dir.path });
    expect(readFileSync(file, "utf8")).toBe(before);
    for (const name of ["admin-token", "identity.pem", "store.sqlite", "join-token"]) {
      expect([name, mode(name)]).toEqual([name, 0o600]);
    }
    expect(head.lines.filter((line) => line.includes("was readable by other users")).length).toBe(
      4,
    );
  }
  writeFileSync(file, "nonsense\n");
  const failed = await startTestHead(FAST, { dataDir: dir.path }).then(
    () => null,
    (error: unknown) => error,
  );
  expect(failed).toBeInstanceOf(LlmnodeError);
  expect(failed).toMatchObject({ code: "data_dir_unusable" });
  rmSync(file);
  await using head = await startTestHead(FAST, { dataDir: dir.path });
  expect(readFileSync(file, "utf8")).not.toBe(before);
  expect((await head.post("/api/v1/join-tokens", {})).status).toBe(200);
});

test("a service never sees the key that let its client in, and sees its own", async () => {
  await using engine = startEngine(() => new Response("ok"));
  await using head = await startTestHead(FAST);
  await using worker = fakeWorker(head, { hello: { name: "w" } });
  worker.report({ service: "echo", kind: "generic", port: engine.port });
  const ask = (headers: Record<string, string>) =>
    fetch(`${head.url}/v1/service/echo/x`, { headers });
  await waitFor(async () => (await ask({ authorization: "Bearer its-own" })).status === 200);
  const { key } = await create(head, { models: ["echo"] });
  const { key: other } = await create(head, { models: ["m"] });
  expect((await ask({ "x-api-key": key })).status).toBe(200);
  expect((await ask(bearer(other))).status).toBe(404);
  expect(engine.seen.map(({ headers }) => headers.get("authorization")).at(0)).toBe(
    "Bearer its-own",
  );
  expect(engine.seen.at(-1)?.headers.get("x-api-key")).toBeNull();
});

test("a port that speaks no HTTP is no reason to forget who asked", async () => {
  await using head = await startTestHead(FAST, { access: "keys" });
  // HTTP/1.0 without a host, as from a balancer's check.
  const { port } = new URL(head.url);
  const answer = await new Promise<string>((resolve, reject) => {
    let text = "";
    const socket = net.connect(Number(port), "127.0.0.1", () => {
      socket.write("GET /v1/models HTTP/1.0\r\n\r\n");
    });
    socket.on("data", (bytes) => (text += bytes.toString()));
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
  expect(answer).toStartWith("HTTP/1.1 401");
});
