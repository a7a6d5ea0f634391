import { expect, test } from "bun:test";
import { type KeepAliveOptions, withKeepAlive } from "../../../src/proxy/answer/silence.ts";

const KEEP = ": keep-alive\n\n";
const FAST: KeepAliveOptions = { firstKeepAliveMs: 20, keepAliveMs: 20, dialect: "openai" };

function later(response: Response, afterMs = 90): Promise<Response> {
  return Bun.sleep(afterMs).then(() => response);
}

test("an answer that comes in time is passed on as it is", async () => {
  const answer = new Response("x", { status: 404 });
  expect(await withKeepAlive(Promise.resolve(answer), FAST)).toBe(answer);
});

test("a late answer comes behind comments, in a stream that says that it is one", async () => {
  const response = await withKeepAlive(later(new Response("data: 1\n\n")), FAST);
  expect(response.status).toBe(200);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
  });
  const text = await response.text();
  expect(text).toMatch(/^(: keep-alive\n\n){2,}data: 1\n\n$/);
});

test.each([
  ["openai", `data: {"e":1}\n\n`],
  ["responses", `event: error\ndata: {"e":1}\n\n`],
  ["anthropic", `event: error\ndata: {"e":1}\n\n`],
] as const)("a late error is an event for a client of %s", async (dialect, event) => {
  const answer = later(new Response('{"e":1}', { status: 503 }));
  const text = await (await withKeepAlive(answer, { ...FAST, dialect })).text();
  expect(text.replaceAll(KEEP, "")).toBe(event);
  expect(text).toEndWith(event);
});

test("an answer without a body ends the stream", async () => {
  const text = await (await withKeepAlive(later(new Response(null)), FAST)).text();
  expect(text.replaceAll(KEEP, "")).toBe("");
});

test("a client that leaves before the answer leaves nothing running", async () => {
  const gate = Promise.withResolvers<Response>();
  const response = await withKeepAlive(gate.promise, FAST);
  let isCancelled = false;
  const cancelled = response.body?.cancel();
  gate.resolve(
    new Response(
      new ReadableStream({
        cancel() {
          isCancelled = true;
        },
      }),
    ),
  );
  await cancelled;
  expect(isCancelled).toBe(true);
});

test("a client that does not read gets one comment, and the answer's end ends its stream", async () => {
  const gate = Promise.withResolvers<Response>();
  const response = await withKeepAlive(gate.promise, FAST);
  await Bun.sleep(100);
  let fail = (_: Error): void => {};
  const body = new ReadableStream({
    start(controller) {
      fail = (error) => controller.error(error);
    },
  });
  gate.resolve(new Response(body));
  await Bun.sleep(5);
  fail(new Error("the client takes nothing"));
  await Bun.sleep(5);
  await expect(response.text()).rejects.toThrow("takes nothing");
});

test("what breaks in a late answer breaks the stream", async () => {
  const body = new ReadableStream({
    pull(controller) {
      controller.error(new Error("broken"));
    },
  });
  const response = await withKeepAlive(later(new Response(body), 40), FAST);
  await expect(response.text()).rejects.toThrow("broken");
});
