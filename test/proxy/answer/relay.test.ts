import { expect, test } from "bun:test";
import {
  type ChunkReader,
  relay,
  type RelayEnd,
  type RelayOptions,
} from "../../../src/proxy/answer/relay.ts";
import { createStreamWatch } from "../../../src/proxy/record/stream-watch.ts";
import { waitFor } from "../../helpers/wait.ts";

const KEEP = ": keep-alive\n\n";

/** A relay whose engine says what the test says. */
function begin(first: string, more: Partial<RelayOptions> = {}) {
  const ends: RelayEnd[] = [];
  const format = more.format === undefined ? "sse" : more.format;
  const queue: (string | Error | null)[] = [];
  let wake = Promise.withResolvers<void>();
  let reads = 0;
  const reader: ChunkReader = {
    async read() {
      reads += 1;
      while (queue.length === 0) await wake.promise;
      const next = queue.shift();
      if (next instanceof Error) throw next;
      return next == null ? { done: true } : { done: false, value: Buffer.from(next) };
    },
  };
  const body = relay({
    reader,
    first: Buffer.from(first),
    format,
    watch: createStreamWatch({ format, dropUsage: false, tailBytes: 4096 }),
    breakFrame: () => "data: broken\n\n",
    keepAliveMs: 60_000,
    slowClientMs: 60_000,
    onProgress() {},
    onReading() {},
    onEnd: (end) => void ends.push(end),
    ...more,
  });
  return {
    body,
    ends,
    reads: () => reads,
    /** Null: the end. */
    say(...chunks: (string | Error | null)[]) {
      queue.push(...chunks);
      wake.resolve();
      wake = Promise.withResolvers<void>();
    },
  };
}

test("chunks pass one by one, and the end is told once", async () => {
  const { body, say, ends } = begin("data: 1\n\n");
  say("data: 2\n\n", "da", null);
  expect(await new Response(body).text()).toBe("data: 1\n\ndata: 2\n\nda");
  expect(ends).toEqual(["ok"]);
});

test("an engine is read no faster than its client reads", async () => {
  const { body, say, reads } = begin("data: 1\n\n");
  say(...Array.from({ length: 100 }, () => "data: x\n\n"));
  const reader = body.getReader();
  await reader.read();
  await Bun.sleep(20);
  expect(reads()).toBeLessThanOrEqual(1);
  await reader.read();
  await reader.cancel();
});

test.each([
  ["data: 1\n\n", "data: 1\n\ndata: broken\n\n"],
  ["data: 1\n\ndata: 2", "data: 1\n\ndata: 2\n\ndata: broken\n\n"],
  ["data: 1\n\ndata: 2\n", "data: 1\n\ndata: 2\n\ndata: broken\n\n"],
  ["data: 1\r\n\r\ndata: 2\r", "data: 1\r\n\r\ndata: 2\r\ndata: broken\n\n"],
])("a break behind %j is a frame of its own", async (sent, relayed) => {
  const { body, say, ends } = begin(sent);
  say(new Error("reset"));
  expect(await new Response(body).text()).toBe(relayed);
  expect(ends).toEqual(["broken"]);
});

test("a break behind the last frame is no break", async () => {
  const { body, say, ends } = begin("data: 1\n\n");
  say("data: [DONE]\n\n", new Error("reset"));
  expect(await new Response(body).text()).toBe("data: 1\n\ndata: [DONE]\n\n");
  expect(ends).toEqual(["ok"]);
});

test("a break in what is no stream of frames is a broken connection", async () => {
  const { body, say, ends } = begin("{", { format: null });
  say(new Error("reset"));
  await expect(new Response(body).text()).rejects.toThrow("reset");
  expect(ends).toEqual(["broken"]);
});

test("comments fill silence, between events only, and never in JSON lines", async () => {
  const between = begin("data: 1\n\n", { keepAliveMs: 20 });
  const inside = begin("data: 1\n\nda", { keepAliveMs: 20 });
  const afterLetter = begin("data: 1\n\nd", { keepAliveMs: 20 });
  const lines = begin('{"a":1}\n', { keepAliveMs: 20, format: "ndjson" });
  const all = [between, inside, afterLetter, lines];
  const texts = all.map(({ body }) => new Response(body).text());
  await Bun.sleep(120);
  for (const { say } of all) say(null);
  const [a = "", b, c, d] = await Promise.all(texts);
  expect(a.startsWith(`data: 1\n\n${KEEP}${KEEP}`)).toBe(true);
  expect([b, c, d]).toEqual(["data: 1\n\nda", "data: 1\n\nd", '{"a":1}\n']);
});

test("a client that takes nothing is cut", async () => {
  const { body, ends } = begin("data: 1\n\n", { slowClientMs: 30 });
  await waitFor(() => ends.length === 1);
  expect(ends).toEqual(["slow_client"]);
  await expect(new Response(body).text()).rejects.toThrow("takes nothing");
});

test("an engine that says nothing is no slow client", async () => {
  const { body, say, ends } = begin("data: 1\n\n", { slowClientMs: 20 });
  const text = new Response(body).text();
  await Bun.sleep(80);
  say("data: 2\n\n", null);
  expect(await text).toBe("data: 1\n\ndata: 2\n\n");
  expect(ends).toEqual(["ok"]);
});

test("a client that leaves is told once, and what still comes goes nowhere", async () => {
  const { body, say, ends } = begin("data: 1\n\n");
  const reader = body.getReader();
  await reader.read();
  const pending = reader.read();
  await reader.cancel();
  say("data: 2\n\n", new Error("reset"));
  expect((await pending).done).toBe(true);
  await Bun.sleep(5);
  expect(ends).toEqual(["client_gone"]);
});

/** What goes on after a break: a reader of these, or nothing. */
function continuing(rest: readonly string[] | null) {
  const kept: string[] = [];
  let asked = 0;
  let stopped = 0;
  const queue = [...(rest ?? [])];
  const gate = Promise.withResolvers<void>();
  return {
    kept,
    asked: () => asked,
    stopped: () => stopped,
    open: gate.resolve,
    keep: (chunk: Uint8Array) => void kept.push(Buffer.from(chunk).toString()),
    failureAt: (chunk: Uint8Array) => Buffer.from(chunk).indexOf("data: fail"),
    async goOn(): Promise<ChunkReader | null> {
      asked += 1;
      await gate.promise;
      if (rest === null) return null;
      return {
        async read() {
          const next = queue.shift();
          return next === undefined ? { done: true } : { done: false, value: Buffer.from(next) };
        },
      };
    },
    stop() {
      stopped += 1;
    },
  };
}

function beginWhole(first: string, continuation: ReturnType<typeof continuing>) {
  const watch = createStreamWatch({
    format: "sse",
    dropUsage: false,
    wholeFrames: true,
    tailBytes: 4096,
  });
  return begin(first, { watch, continuation, keepAliveMs: 20 });
}

test("a break goes on elsewhere behind the last whole frame, with comments meanwhile", async () => {
  const other = continuing(["data: 3\n\n", "data: [DONE]\n\n"]);
  const { body, say, ends } = beginWhole("data: 1\n\n", other);
  say("data: 2\n\nda", new Error("reset"));
  const text = new Response(body).text();
  await Bun.sleep(100);
  other.open();
  const said = await text;
  expect(said.replaceAll(KEEP, "")).toBe(
    "data: 1\n\ndata: 2\n\n: llmnode-resumed\n\ndata: 3\n\ndata: [DONE]\n\n",
  );
  expect(said).toContain(`data: 2\n\n${KEEP}`);
  expect(other.kept).toEqual(["data: 1\n\n", "data: 2\n\nda"]);
  expect([ends, other.stopped()]).toEqual([["ok"], 1]);
});

test("where nothing goes on, what there was of the frame and the error come as ever", async () => {
  const other = continuing(null);
  other.open();
  const { body, say, ends } = beginWhole("data: 1\n\n", other);
  say("da", new Error("reset"));
  expect(await new Response(body).text()).toBe("data: 1\n\nda\n\ndata: broken\n\n");
  expect([ends, other.asked(), other.stopped()]).toEqual([["broken"], 1, 1]);
});

test("an engine that says it has failed is passed on where nothing goes on, else not", async () => {
  for (const [rest, end] of [
    [null, "data: fail\n\ndata: [DONE]\n\n"],
    [["data: 3\n\n"], ": llmnode-resumed\n\ndata: 3\n\n"],
  ] as const) {
    const other = continuing(rest);
    other.open();
    const { body, say, ends } = beginWhole("data: 1\n\n", other);
    say("data: 2\n\ndata: fail\n\n", "data: [DONE]\n\n", null);
    expect(await new Response(body).text()).toBe(`data: 1\n\ndata: 2\n\n${end}`);
    expect([ends, other.asked()]).toEqual([["ok"], 1]);
    expect(other.kept).toEqual(["data: 1\n\n", "data: 2\n\n"]);
  }
});

test("a failure that came with the first frame does not reach the client either", async () => {
  const other = continuing(["data: 3\n\n"]);
  other.open();
  const { body } = beginWhole("data: 1\n\ndata: fail\n\n", other);
  expect(await new Response(body).text()).toBe("data: 1\n\n: llmnode-resumed\n\ndata: 3\n\n");
});

test("a stream that breaks twice is over, and so is one whose end was there", async () => {
  const other = continuing(["data: [DONE]\n\n"]);
  other.open();
  const { body, say, ends } = beginWhole("data: 1\n\n", other);
  say("data: [DONE]\n\n", new Error("reset"));
  expect(await new Response(body).text()).toBe("data: 1\n\ndata: [DONE]\n\n");
  expect([ends, other.asked()]).toEqual([["ok"], 0]);
});

test("a client that leaves while something is looked for is told once", async () => {
  const other = continuing(["data: 3\n\n"]);
  const { body, say, ends } = beginWhole("data: 1\n\n", other);
  say(new Error("reset"));
  const reader = body.getReader();
  await reader.read();
  const pending = reader.read();
  await waitFor(() => other.asked() === 1);
  await reader.cancel();
  other.open();
  expect((await pending).done).toBe(true);
  await Bun.sleep(5);
  expect([ends, other.stopped()]).toEqual([["client_gone"], 1]);
});

test("it is told whether the engine is waited for or the client", async () => {
  const told: boolean[] = [];
  const { body, say } = begin("data: 1\n\n", {
    onReading: (isReading) => void told.push(isReading),
  });
  const reader = body.getReader();
  await reader.read();
  const pending = reader.read();
  await waitFor(() => told.at(-1) === true);
  say("data: 2\n\n");
  await pending;
  expect(told.at(-1)).toBe(false);
  await reader.cancel();
});
