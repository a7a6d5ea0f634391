import { expect, test } from "bun:test";
import type { Upstream } from "../../src/util/http/exchange.ts";
import { directUpstream } from "../helpers/upstream.ts";
import { chatAnswer, eventStream, startEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { type FrontOptions, startFront } from "./front.ts";

const CHAT = "/v1/chat/completions";
const ask = (more: object = {}) => ({ model: "m", messages: [], ...more });
const at = (engine: { port: number }): Upstream =>
  directUpstream(`http://127.0.0.1:${engine.port}`);

test("one record for each request, its attempts in order, its lease given back once", async () => {
  await using bad = startEngine(() => Response.json({ error: "no" }, { status: 500 }));
  await using good = startEngine(() =>
    Response.json({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 2 } }),
  );
  await using front = startFront({ upstreams: [at(bad), at(good)] });
  expect((await front.post(CHAT, ask())).status).toBe(200);
  const record = await front.next();
  expect(record).toMatchObject({
    model: "m",
    modelKnown: true,
    route: CHAT,
    status: 200,
    error: null,
    usage: { input: 1, output: 2 },
  });
  expect(record.attempts.map(({ worker, outcome, status }) => [worker, outcome, status])).toEqual([
    ["worker-0", "engine_error", 500],
    ["worker-1", "ok", 200],
  ]);
  expect(front.outcomes).toEqual(["engine_error", "ok"]);
  expect([front.records.length, front.heldBytes]).toEqual([1, 0]);
});

test.each([
  ["a body that is none", "{", 400, "bad_request"],
  ["a body that is too large", `{"model":"${"x".repeat(2000)}"}`, 413, "request_too_large"],
])("%s is recorded with its code and reaches no engine", async (_, body, status, code) => {
  await using engine = startEngine(() => chatAnswer("x"));
  await using front = startFront({ upstreams: [at(engine)], maxBodyBytes: 1000 });
  expect((await front.post(CHAT, body)).status).toBe(status);
  expect(await front.next()).toMatchObject({
    status,
    error: code,
    attempts: [],
    modelKnown: false,
  });
  expect([engine.seen.length, front.heldBytes]).toEqual([0, 0]);
});

test("a bug is told as one, in the route's dialect, and gives everything back", async () => {
  const broken: FrontOptions["proxy"] = {
    acquire: () => Promise.reject(new TypeError("oops")),
  };
  await using front = startFront({ upstreams: [], proxy: broken });
  const response = await front.post("/v1/messages", ask());
  expect([response.status, await response.json()]).toEqual([
    500,
    { type: "error", error: { type: "api_error", message: "a bug" } },
  ]);
  expect(await front.next()).toMatchObject({ status: 500, error: "internal" });
  expect([front.bugs, front.heldBytes]).toEqual([["oops"], 0]);
});

test("a bug behind comments is an event, not a crash, also when nobody waits for it", async () => {
  const late = Promise.withResolvers<never>();
  const proxy = { acquire: () => late.promise, firstKeepAliveMs: 20, keepAliveMs: 20 };
  await using front = startFront({ upstreams: [], proxy });
  const stays = await front.post(CHAT, ask({ stream: true }));
  const client = new AbortController();
  await front.post(CHAT, ask({ stream: true }), { signal: client.signal });
  client.abort();
  late.reject(new TypeError("oops"));
  expect(await stays.text()).toEndWith('"code":"internal"}}\n\n');
  await waitFor(() => front.records.length === 2);
});

test("a request that is taken away before its first byte goes on elsewhere, uncounted", async () => {
  await using stuck = startEngine(() => new Promise<Response>(() => {}));
  await using good = startEngine(() => chatAnswer("x"));
  await using front = startFront({ upstreams: [at(stuck), at(good)], proxy: { maxAttempts: 1 } });
  const answering = front.post(CHAT, ask());
  await waitFor(() => stuck.seen.length === 1);
  front.reschedule("move");
  expect((await answering).status).toBe(200);
  expect(front.outcomes).toEqual(["rescheduled", "ok"]);
});

test("a stream that is taken away ends with an error frame", async () => {
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await new Promise(() => {});
      })(),
    ),
  );
  await using front = startFront({ upstreams: [at(engine)] });
  const response = await front.post(CHAT, ask({ stream: true }));
  front.reschedule("fail");
  expect(await response.text()).toStartWith('data: 1\n\ndata: {"error":');
  expect(await front.next()).toMatchObject({ status: 200, error: "broken", usageEstimated: true });
});

test("bodies are let go when the answer begins, not when it ends", async () => {
  const gate = Promise.withResolvers<void>();
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await gate.promise;
      })(),
    ),
  );
  await using front = startFront({ upstreams: [at(engine)] });
  const response = await front.post(CHAT, ask({ stream: true, x: "y".repeat(5000) }));
  expect([response.status, front.heldBytes]).toEqual([200, 0]);
  gate.resolve();
  await response.text();
});
