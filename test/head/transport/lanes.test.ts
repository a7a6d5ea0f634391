import { expect, test } from "bun:test";
import { eventStream, startEngine, startRawEngine, type Answer } from "../../helpers/engine.ts";
import { link } from "../../helpers/lanes.ts";
import { waitFor } from "../../helpers/wait.ts";

/**
 * What a promise is rejected with. Not `expect().rejects`: that turns the event loop inside the
 * socket callback from which the test was resumed, and loses what the callback has yet to read.
 */
function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => new Error("it did not fail"),
    (error: unknown) => error,
  );
}

const echo: Answer = (_, body) => new Response(body, { headers: { "x-engine": "yes" } });

test("a request and its answer pass as they are, with the engine's key", async () => {
  await using engine = startEngine((_, body) => Response.json({ got: body }, { status: 201 }));
  await using lane = await link(engine.port);
  const response = await lane.send();
  expect([response.status, await response.json()]).toEqual([201, { got: '{"a":1}' }]);
  const [seen] = engine.seen;
  expect([seen?.method, seen?.path, seen?.headers.get("authorization")]).toEqual([
    "POST",
    "/v1/x?y=1",
    "Bearer engine-key",
  ]);
  expect(seen?.headers.get("host")).toBe(`127.0.0.1:${engine.port}`);
  await waitFor(() => lane.pool.parked === 4);
});

test.each([0, 1, 100_000, 262_144, 262_145, 5_000_000])(
  "%d bytes pass up and down",
  async (size) => {
    await using engine = startEngine(
      async (request) =>
        new Response(
          await request
            .clone()
            .arrayBuffer()
            .catch(() => ""),
        ),
    );
    await using raw = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => new Response(await request.bytes()),
    }) as unknown as AsyncDisposable & { port: number };
    await using lane = await link(raw.port);
    const body = new Uint8Array(size).map((_, i) => (i * 31) % 251);
    const response = await lane.send({ body });
    expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(body))).toBe(true);
    void engine;
  },
);

test("a body of unknown length is streamed", async () => {
  await using engine = startEngine(echo);
  await using lane = await link(engine.port);
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      for (let i = 0; i < 10; i += 1) {
        controller.enqueue(new Uint8Array(100_000).fill(65 + i));
        await Bun.sleep(1);
      }
      controller.close();
    },
  });
  const response = await lane.send({ body });
  expect((await response.text()).length).toBe(1_000_000);
});

test("a stream's chunks come when the engine sends them", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await gates[0]?.promise;
        yield "data: 2\n\n";
        await gates[1]?.promise;
        yield "data: [DONE]\n\n";
      })(),
    ),
  );
  await using lane = await link(engine.port);
  const response = await lane.send();
  const reader = response.body?.getReader();
  const next = async () => new TextDecoder().decode((await reader?.read())?.value);
  expect(await next()).toBe("data: 1\n\n");
  gates[0]?.resolve();
  expect(await next()).toBe("data: 2\n\n");
  gates[1]?.resolve();
  expect(await next()).toBe("data: [DONE]\n\n");
  expect((await reader?.read())?.done).toBe(true);
});

test.each(["before the answer", "in the middle of it"])(
  "a cancel %s reaches the engine, and the lane is free again",
  async (when) => {
    await using engine = startEngine(() =>
      when === "before the answer"
        ? new Promise<Response>(() => {})
        : eventStream(
            (async function* () {
              yield "data: 1\n\n";
              await new Promise(() => {});
            })(),
          ),
    );
    await using lane = await link(engine.port);
    const cancel = new AbortController();
    const sent = lane.send({ signal: cancel.signal });
    await waitFor(() => engine.seen.length === 1);
    if (when === "before the answer") {
      cancel.abort();
      expect(await failure(sent)).toMatchObject({ name: "AbortError" });
    } else {
      const reader = (await sent).body?.getReader();
      await reader?.read();
      cancel.abort();
      expect(await failure(reader?.read() ?? Promise.resolve())).toMatchObject({
        name: "AbortError",
      });
    }
    await waitFor(() => engine.aborted === 1);
    await waitFor(() => lane.pool.parked === 4);
    expect(lane.pool.lanes).toBe(4);
  },
);

test("late bytes of one client never reach another", async () => {
  let count = 0;
  await using engine = startEngine(() => {
    count += 1;
    const own = String(count);
    return eventStream(
      (async function* () {
        for (;;) {
          yield `data: ${own}\n\n`;
          await Bun.sleep(0);
        }
      })(),
    );
  });
  await using lane = await link(engine.port, { parkedAtFirst: 1, maxLanes: 1 });
  for (let i = 1; i <= 30; i += 1) {
    const response = await lane.send();
    const reader = response.body?.getReader();
    for (let n = 0; n < 3; n += 1) {
      const text = new TextDecoder().decode((await reader?.read())?.value);
      expect(new Set(text.match(/\d+/g))).toEqual(new Set([String(i)]));
    }
    await reader?.cancel();
  }
});

test("a reader that stops holds the engine up, costs little, and slows nobody else", async () => {
  let produced = 0;
  await using engine = startEngine((_, body) => {
    if (body !== "endless") return new Response("quick");
    return new Response(
      new ReadableStream<Uint8Array>({
        pull(controller) {
          produced += 65_536;
          controller.enqueue(new Uint8Array(65_536));
        },
      }),
    );
  });
  await using lane = await link(engine.port);
  const stalled = await lane.send({ body: new Uint8Array(Buffer.from("endless")) });
  let before = -1;
  await waitFor(async () => {
    const still = produced === before;
    before = produced;
    await Bun.sleep(50);
    return still;
  });
  // What the kernel's buffers hold comes on top of the credit.
  expect(produced).toBeLessThan(20_000_000);
  for (let i = 0; i < 20; i += 1) expect(await (await lane.send()).text()).toBe("quick");
  await stalled.body?.cancel();
  await waitFor(() => lane.pool.parked >= 4);
});

test("300 concurrent streams get lanes on demand", async () => {
  await using engine = startEngine(() =>
    eventStream(
      (async function* () {
        yield "data: 1\n\n";
        await Bun.sleep(300);
        yield "data: 2\n\n";
      })(),
    ),
  );
  await using lane = await link(engine.port, { maxLanes: 64 });
  const texts = await Promise.all(
    Array.from({ length: 100 }, async () => (await lane.send()).text()),
  );
  expect(new Set(texts)).toEqual(new Set(["data: 1\n\ndata: 2\n\n"]));
  expect(lane.pool.lanes).toBeLessThanOrEqual(64);
});

test("an engine that is not there, and one that breaks off, are told apart", async () => {
  await using none = await link(null);
  expect(await failure(none.send())).toMatchObject({ code: "ECONNREFUSED" });
  await using dying = startRawEngine((socket, _, count) => {
    if (count > 1) return;
    socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    setTimeout(() => socket.reset(), 20);
  });
  await using lane = await link(dying.port);
  const response = await lane.send();
  expect(await failure(response.text())).toMatchObject({ code: "ECONNRESET" });
  await waitFor(() => lane.pool.parked === 4);
});

test("lanes that break end their requests with an error; a pool that closes ends all", async () => {
  await using engine = startEngine(() => new Promise<Response>(() => {}));
  await using lane = await link(engine.port);
  const sent = lane.send();
  await waitFor(() => engine.seen.length === 1);
  lane.lanes.close();
  expect(await failure(sent)).toMatchObject({ code: "LANE_BROKEN" });
  await waitFor(() => engine.aborted === 1);
  lane.pool.close();
  expect(await failure(lane.send())).toMatchObject({ code: "upstream_unreachable" });
});

test("a lane needs the key of its worker's session", async () => {
  await using engine = startEngine(echo);
  await using lane = await link(engine.port);
  for (const headers of [
    {},
    { authorization: "Bearer wrong-key", "x-llmnode-worker-id": "w" },
    { authorization: "Bearer lane-key", "x-llmnode-worker-id": "other" },
  ]) {
    const socket = new WebSocket(`ws://127.0.0.1:${lane.port}`, { headers });
    const closed = Promise.withResolvers<number>();
    socket.addEventListener("close", (event) => closed.resolve(event.code));
    socket.addEventListener("open", () => closed.resolve(-1));
    expect(await closed.promise).not.toBe(-1);
  }
  expect(lane.pool.lanes).toBe(4);
});

test("frames that break the rules close that lane, and no other", async () => {
  await using engine = startEngine(echo);
  await using lane = await link(engine.port);
  const headers = { authorization: "Bearer lane-key", "x-llmnode-worker-id": "w" };
  for (const bytes of [
    [],
    [99, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 123],
    [6, 0, 0, 0, 0, 91, 93],
    new Array(140_000).fill(3),
  ]) {
    const socket = new WebSocket(`ws://127.0.0.1:${lane.port}`, { headers });
    const closed = Promise.withResolvers<boolean>();
    socket.addEventListener("open", () => socket.send(new Uint8Array(bytes)));
    socket.addEventListener("close", () => closed.resolve(true));
    socket.addEventListener("error", () => closed.resolve(true));
    expect(await closed.promise).toBe(true);
  }
  await waitFor(() => lane.pool.lanes === 4);
  expect(await (await lane.send()).text()).toBe('{"a":1}');
});

test("two thousand requests over a few lanes get their own answers, whatever is cancelled", async () => {
  await using engine = startEngine(async (_, body) => {
    if (body.length % 3 === 0) await Bun.sleep(1);
    const half = body.length >> 1;
    return eventStream(
      (async function* () {
        yield body.slice(0, half);
        if (body.length % 2 === 0) await Bun.sleep(0);
        yield body.slice(half);
      })(),
    );
  });
  await using lane = await link(engine.port, { parkedAtFirst: 4, maxLanes: 8, maxWaiting: 2000 });
  let cancelled = 0;
  const one = async (i: number) => {
    const text = `${i}:${"x".repeat(i % 700)}:${i}`;
    const cancel = new AbortController();
    const sent = lane.send({ body: new TextEncoder().encode(text), signal: cancel.signal });
    if (i % 7 === 0) setTimeout(() => cancel.abort(), i % 5);
    const answer = await sent.then((response) => response.text()).catch(() => null);
    if (answer === null) cancelled += 1;
    else expect(answer).toBe(text);
  };
  for (let start = 0; start < 2000; start += 200) {
    await Promise.all(Array.from({ length: 200 }, (_, i) => one(start + i)));
  }
  expect(cancelled).toBeLessThanOrEqual(Math.ceil(2000 / 7));
  await waitFor(() => lane.pool.parked === lane.pool.lanes);
  expect(lane.pool.lanes).toBeLessThanOrEqual(8);
});
