import { expect, test } from "bun:test";
import type { LeaseOutcome } from "../../../src/protocol/replica-request.ts";
import type { Upstream } from "../../../src/util/http/exchange.ts";
import { directUpstream } from "../../helpers/upstream.ts";
import {
  type Answer,
  chatAnswer,
  eventStream,
  startEngine,
  startRawEngine,
  type TestEngine,
} from "../../helpers/engine.ts";
import { waitFor } from "../../helpers/wait.ts";
import { type Front, type FrontOptions, startFront } from "../front.ts";

const CHAT = "/v1/chat/completions";
const ask = (more: object = {}) => ({ model: "m", messages: [], ...more });
const at = (engine: { port: number }): Upstream =>
  directUpstream(`http://127.0.0.1:${engine.port}`);
const say = (status: number, message = `this is ${status}`, headers = {}): Answer => {
  const body = { error: { message } };
  return () => Response.json(body, { status, headers });
};
const good: Answer = () => chatAnswer("good");
const frame = (error: object): Answer => {
  return () => eventStream([`data: ${JSON.stringify({ error })}\n\n`, "data: [DONE]\n\n"]);
};
const OTHER_MODEL = "The model `m` does not exist.";
const TOO_LONG =
  "This model's maximum context length is 2048 tokens. However, you requested 4000 tokens.";

/** Engines that give these answers, and the proxy before them. */
async function startAll(
  answers: readonly Answer[],
  options: Omit<FrontOptions, "upstreams"> = {},
): Promise<AsyncDisposable & { front: Front; engines: TestEngine[] }> {
  await using stack = new AsyncDisposableStack();
  const engines = answers.map((answer) => stack.use(startEngine(answer)));
  const front = stack.use(startFront({ ...options, upstreams: engines.map(at) }));
  const all = stack.move();
  return { front, engines, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

interface Row {
  what: string;
  answers: Answer[];
  stream?: boolean;
  contexts?: (number | null)[];
  status: number;
  /** How each attempt ended. */
  outcomes: LeaseOutcome[];
  /** Requests that each engine has seen. */
  seen: number[];
}

const ROWS: Row[] = [
  {
    what: "500: once elsewhere",
    answers: [say(500), good],
    status: 200,
    outcomes: ["engine_error", "ok"],
    seen: [1, 1],
  },
  {
    what: "500 twice: it is the answer",
    answers: [say(500), say(500), good],
    status: 500,
    outcomes: ["engine_error", "engine_error"],
    seen: [1, 1, 0],
  },
  {
    what: "502: elsewhere",
    answers: [say(502), good],
    status: 200,
    outcomes: ["bad_gateway", "ok"],
    seen: [1, 1],
  },
  {
    what: "504: elsewhere",
    answers: [say(504), good],
    status: 200,
    outcomes: ["bad_gateway", "ok"],
    seen: [1, 1],
  },
  {
    what: "502 twice: elsewhere again",
    answers: [say(502), say(504), good],
    status: 200,
    outcomes: ["bad_gateway", "bad_gateway", "ok"],
    seen: [1, 1, 1],
  },
  {
    what: "three counted failures are enough",
    answers: [say(502), say(502), say(504), good],
    status: 504,
    outcomes: ["bad_gateway", "bad_gateway", "bad_gateway"],
    seen: [1, 1, 1, 0],
  },
  {
    what: "429: the others first",
    answers: [say(429), good],
    status: 200,
    outcomes: ["busy", "ok"],
    seen: [1, 1],
  },
  {
    what: "503 costs no attempt",
    answers: [say(503), say(503), say(503), say(429), good],
    status: 200,
    outcomes: ["busy", "busy", "busy", "busy", "ok"],
    seen: [1, 1, 1, 1, 1],
  },
  {
    what: "401: elsewhere",
    answers: [say(401), good],
    status: 200,
    outcomes: ["auth", "ok"],
    seen: [1, 1],
  },
  {
    what: "401 and 403 only: 502",
    answers: [say(401), say(403)],
    status: 502,
    outcomes: ["auth", "auth"],
    seen: [1, 1],
  },
  {
    what: "404 for the model: elsewhere",
    answers: [say(404, OTHER_MODEL), good],
    status: 200,
    outcomes: ["rejected", "ok"],
    seen: [1, 1],
  },
  {
    what: "404 for the model, twice: it is the answer",
    answers: [say(404, OTHER_MODEL), say(404, OTHER_MODEL), good],
    status: 404,
    outcomes: ["rejected", "rejected"],
    seen: [1, 1, 0],
  },
  {
    what: "another 404 is the answer",
    answers: [say(404, "no such file"), good],
    status: 404,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "400 is the answer",
    answers: [say(400), good],
    status: 400,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "422 is the answer",
    answers: [say(422), good],
    status: 422,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "409 is the answer",
    answers: [say(409), good],
    status: 409,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "too long, and nobody knows who takes more",
    answers: [say(400, TOO_LONG), good],
    status: 400,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "too long: where the context is longer",
    answers: [say(400, TOO_LONG), good, good],
    contexts: [2048, 1024, 4096],
    status: 200,
    outcomes: ["rejected", "ok"],
    seen: [1, 0, 1],
  },
  {
    what: "too long there as well: it is the answer",
    answers: [say(400, TOO_LONG), say(400, TOO_LONG), good],
    contexts: [2048, 3000, 4096],
    status: 400,
    outcomes: ["rejected", "rejected"],
    seen: [1, 1, 0],
  },
  {
    what: "too long, and the longer one fails: the word counts",
    answers: [say(400, TOO_LONG), say(400), good],
    contexts: [2048, 4096, null],
    status: 400,
    outcomes: ["rejected", "rejected"],
    seen: [1, 1, 0],
  },
  {
    what: "a first frame that says 503",
    answers: [frame({ message: "full", code: 503 }), good],
    stream: true,
    status: 200,
    outcomes: ["busy", "ok"],
    seen: [1, 1],
  },
  {
    what: "a first frame that says 500",
    answers: [frame({ message: "boom", code: 500 }), good],
    stream: true,
    status: 200,
    outcomes: ["engine_error", "ok"],
    seen: [1, 1],
  },
  {
    what: "a first frame that says 400",
    answers: [frame({ message: "bad", code: 400 }), good],
    stream: true,
    status: 400,
    outcomes: ["rejected"],
    seen: [1, 0],
  },
  {
    what: "a first frame that says 401",
    answers: [frame({ message: "who", code: 401 })],
    stream: true,
    status: 502,
    outcomes: ["auth"],
    seen: [1],
  },
  {
    what: "a first frame that says it is too long",
    answers: [frame({ message: TOO_LONG, code: 400 }), good],
    contexts: [2048, 4096],
    stream: true,
    status: 200,
    outcomes: ["rejected", "ok"],
    seen: [1, 1],
  },
  {
    what: "a redirect is nobody's answer",
    answers: [say(302), say(302)],
    status: 502,
    outcomes: ["engine_error", "engine_error"],
    seen: [1, 1],
  },
];

test.each(ROWS.map((row) => [row.what, row] as const))("%s", async (_, row) => {
  const engines = (row.contexts ?? []).map((maxModelLen) => ({ maxModelLen }));
  await using all = await startAll(row.answers, { engines });
  const response = await all.front.post(CHAT, ask({ stream: row.stream ?? false }));
  await response.text();
  const record = await all.front.next();
  expect({
    status: response.status,
    outcomes: record.attempts.map(({ outcome }) => outcome),
    seen: all.engines.map(({ seen }) => seen.length),
  }).toEqual({ status: row.status, outcomes: row.outcomes, seen: row.seen });
  expect(response.headers.get("x-llmnode-attempts")).toBe(String(row.outcomes.length));
  expect(all.front.outcomes).toEqual(row.outcomes);
  expect(all.front.heldBytes).toBe(0);
});

test("a key that the engine refuses is never the client's 401", async () => {
  await using all = await startAll([say(401, "Unauthorized: sk-engine")]);
  const response = await all.front.post(CHAT, ask());
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  expect([response.status, error.code]).toEqual([502, "upstream_auth"]);
  expect(error.message).not.toContain("sk-engine");
});

test("a connection that is refused goes elsewhere", async () => {
  const dead = startEngine(good);
  await using living = startEngine(good);
  await using front = startFront({ upstreams: [at(dead), at(living)] });
  dead.kill();
  expect((await front.post(CHAT, ask())).status).toBe(200);
  expect(front.outcomes).toEqual(["unreachable", "ok"]);
});

test("a reset of a connection of its own goes elsewhere at once", async () => {
  await using dying = startRawEngine((socket) => socket.reset());
  await using living = startEngine(good);
  await using front = startFront({ upstreams: [at(dying), at(living)] });
  expect((await front.post(CHAT, ask())).status).toBe(200);
  expect(front.outcomes).toEqual(["broken", "ok"]);
  expect(dying.requests).toBe(1);
});

test("a reset of a kept connection is tried once more on a new one, and only that one counts", async () => {
  const body = JSON.stringify({ choices: [] });
  const answer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  // Each connection is good for one request, and does not say so.
  await using engine = startRawEngine((socket, _, count) => {
    if (count === 1) socket.write(answer);
    else socket.reset();
  });
  await using front = startFront({ upstreams: [at(engine)] });
  for (let i = 0; i < 3; i += 1) expect((await front.post(CHAT, ask())).status).toBe(200);
  expect(front.outcomes).toEqual(["ok", "ok", "ok"]);
  expect(engine.requests).toBe(5);
});

test.each([
  ["a stream", "text/event-stream", true],
  ["an answer", "application/json", false],
])("%s that ends before its first data goes elsewhere", async (_, type, stream) => {
  await using dying = startRawEngine((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: 9\r\n\r\n`);
    setTimeout(() => socket.end(), 10);
  });
  await using living = startEngine(good);
  await using front = startFront({ upstreams: [at(dying), at(living)] });
  expect((await front.post(CHAT, ask({ stream }))).status).toBe(200);
  expect(front.outcomes).toEqual(["broken", "ok"]);
});

test("when the budget for repeated requests is used up, the failure is the answer", async () => {
  let asked = 0;
  const mayRetry = () => {
    asked += 1;
    return false;
  };
  await using all = await startAll([say(502), good], { proxy: { mayRetry } });
  expect((await all.front.post(CHAT, ask())).status).toBe(502);
  expect(asked).toBe(1);
  expect(all.front.outcomes).toEqual(["bad_gateway"]);
});

test("the budget pays for failures only: not for moves, nor for a lack of room", async () => {
  let asked = 0;
  const mayRetry = () => {
    asked += 1;
    return true;
  };
  const stuck: Answer = () => new Promise<Response>(() => {});
  await using all = await startAll([stuck, say(503), good], { proxy: { mayRetry } });
  const answering = all.front.post(CHAT, ask());
  await waitFor(() => all.engines[0]?.seen.length === 1);
  all.front.reschedule("move");
  expect((await answering).status).toBe(200);
  expect(asked).toBe(0);
  expect(all.front.outcomes).toEqual(["rescheduled", "busy", "ok"]);
});

const dies = (): ReturnType<typeof startRawEngine> => startRawEngine((socket) => socket.reset());
const died = { died: () => Promise.resolve(true) };

test("an engine that died with the request: elsewhere, once", async () => {
  await using a = dies();
  await using b = startEngine(good);
  await using front = startFront({ upstreams: [at(a), at(b)], engines: [died] });
  expect((await front.post(CHAT, ask())).status).toBe(200);
});

test("two engines that died with it: nobody else gets it", async () => {
  await using a = dies();
  await using b = dies();
  await using c = startEngine(good);
  const engines = [died, died, died];
  await using front = startFront({ upstreams: [at(a), at(b), at(c)], engines });
  const response = await front.post(CHAT, ask());
  const { error } = (await response.json()) as { error: { code: string } };
  expect([response.status, error.code]).toEqual([502, "engine_crashed"]);
  expect(response.headers.get("x-should-retry")).toBe("false");
  expect(response.headers.get("x-llmnode-attempts")).toBe("2");
  expect(c.seen.length).toBe(0);
  expect(await front.next()).toMatchObject({ status: 502, error: "engine_crashed" });
});

test("whether the engine died is known before the next one gets the request", async () => {
  const answer = Promise.withResolvers<boolean>();
  await using a = dies();
  await using b = startEngine(good);
  const engines = [{ died: () => answer.promise }];
  await using front = startFront({ upstreams: [at(a), at(b)], engines });
  const answering = front.post(CHAT, ask());
  await waitFor(() => front.outcomes.length === 1);
  expect(b.seen.length).toBe(0);
  answer.resolve(false);
  expect((await answering).status).toBe(200);
});

test("engines that had ended before they took the request up cost nothing", async () => {
  const dead = [0, 1, 2, 3, 4].map(() => startEngine(good));
  await using living = startEngine(good);
  const upstreams = [...dead.map(at), at(living)];
  await using front = startFront({ upstreams, engines: dead.map(() => died) });
  for (const engine of dead) engine.kill();
  expect((await front.post(CHAT, ask())).status).toBe(200);
  expect(front.outcomes.length).toBe(6);
});

test("an engine that says nothing of its death is not waited for when it took nothing", async () => {
  const dead = startEngine(good);
  await using living = startEngine(good);
  const engines = [{ died: () => new Promise<boolean>(() => {}) }];
  await using front = startFront({ upstreams: [at(dead), at(living)], engines });
  dead.kill();
  expect((await front.post(CHAT, ask())).status).toBe(200);
});

test("the only replica is asked again until it has room", async () => {
  let refusals = 4;
  const sometimes: Answer = (...args) => {
    refusals -= 1;
    return refusals >= 0 ? say(503)(...args) : good(...args);
  };
  await using all = await startAll([sometimes], { proxy: { backoffMs: 5 } });
  expect((await all.front.post(CHAT, ask())).status).toBe(200);
  expect(all.front.wants.map(({ exclude }) => exclude.length)).toEqual([0, 0, 0, 0, 0]);
});

test("a request that meets no room ends in time, and does not hammer the engines", async () => {
  const proxy = { roomTimeoutMs: 400, backoffMs: 20, maxBackoffMs: 80 };
  const full = say(429, "full", { "retry-after": "7" });
  await using all = await startAll([full, full], { proxy });
  const response = await all.front.post(CHAT, ask());
  const { error } = (await response.json()) as { error: { code: string } };
  expect([response.status, error.code]).toEqual([503, "no_ready_replica"]);
  expect(response.headers.get("retry-after")).toBe("7");
  const asked = all.engines.reduce((sum, { seen }) => sum + seen.length, 0);
  // Two at once, then two for each pause of at least 10, 20, 40, 40, ... ms.
  expect(asked).toBeGreaterThan(2);
  expect(asked).toBeLessThan(30);
  expect(await all.front.next()).toMatchObject({ status: 503, error: "no_ready_replica" });
});

test("waiting for a replica after a lack of room ends in time too", async () => {
  await using engine = startEngine(say(503));
  await using front = startFront({
    upstreams: [at(engine)],
    proxy: { roomTimeoutMs: 100 },
    async beforeLease(signal) {
      if (engine.seen.length === 0) return;
      await new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error)),
      );
    },
  });
  const response = await front.post(CHAT, ask());
  expect([response.status, response.headers.get("retry-after"), engine.seen.length]).toEqual([
    503,
    "1",
    1,
  ]);
});

test("a client that leaves while the engines are busy is not waited with", async () => {
  const proxy = { backoffMs: 60_000, maxBackoffMs: 60_000 };
  await using all = await startAll([say(503)], { proxy });
  const client = new AbortController();
  const left = all.front.post(CHAT, ask(), { signal: client.signal }).then(
    () => "answered",
    () => "left",
  );
  await waitFor(() => all.engines[0]?.seen.length === 2);
  client.abort();
  expect(await left).toBe("left");
  expect(await all.front.next()).toMatchObject({ status: 499, error: "client_gone" });
  expect(all.front.heldBytes).toBe(0);
});

test("a form that is passed on as it comes is not sent twice", async () => {
  await using all = await startAll([say(502), good]);
  const form = new FormData();
  form.set("model", "m");
  form.set("file", new Blob([new Uint8Array(2 * 1024 * 1024)]));
  const response = await fetch(`${all.front.url}/v1/audio/transcriptions`, {
    method: "POST",
    body: form,
  });
  expect([response.status, all.engines[1]?.seen.length]).toEqual([502, 0]);
});

test("why this replica: told to who asks, and in ASCII", async () => {
  const explanation = "auto: gpu-1 0.1 s, \u00fcber-gpu 0.2 s\r\nx-evil: 1";
  await using all = await startAll([good, good], { engines: [{ explanation }] });
  const headers = { "x-llmnode-debug-route": "1" };
  const response = await all.front.post(CHAT, ask(), { headers });
  const told = response.headers.get("x-llmnode-debug-route");
  expect(told).toStartWith("auto: gpu-1 0.1 s, ?ber-gpu 0.2 s");
  expect(response.headers.get("x-evil")).toBeNull();
  expect(all.front.wants.map(({ explain }) => explain)).toEqual([true]);
});
