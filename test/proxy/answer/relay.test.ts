import { expect, test } from "bun:test";
import {
  type BodySink,
  type GoingOn,
  Relay,
  type RelayEnd,
  type RelayOptions,
} from "../../../src/proxy/answer/relay.ts";
import { createStreamWatch } from "../../../src/proxy/record/stream-watch.ts";

const KEEP = ": keep-alive\n\n";

/** What a client has got, and whether it keeps up. */
class Client {
  text = "";
  state: "open" | "ended" | "broken" = "open";
  waitingSince: number | null = null;

  write(bytes: Uint8Array): boolean {
    if (this.state === "open") this.text += Buffer.from(bytes).toString();
    return this.waitingSince === null;
  }

  end(): void {
    this.state = "ended";
  }

  fail(): void {
    this.state = "broken";
  }
}

/** A relay whose engine has begun like that. */
function begin(first: string, more: Partial<RelayOptions> = {}) {
  const client = new Client();
  const ends: RelayEnd[] = [];
  const reading: boolean[] = [];
  const format = more.format === undefined ? "sse" : more.format;
  const relay = new Relay({
    client,
    format,
    watch: createStreamWatch({ format, dropUsage: false, tailBytes: 4096 }),
    breakFrame: () => "data: broken\n\n",
    keepAliveMs: 60_000,
    slowClientMs: 60_000,
    onProgress() {},
    onReading: (isReading) => void reading.push(isReading),
    onEnd: (end) => void ends.push(end),
    ...more,
  });
  relay.data(Buffer.from(first));
  return { relay, client, ends, reading };
}

/** Has the engine say these; an error is a break, null the end. */
function say(sink: BodySink, ...said: (string | Error | null)[]): void {
  for (const what of said) {
    if (what === null) sink.end();
    else if (what instanceof Error) sink.fail(what);
    else sink.data(Buffer.from(what));
  }
}

const reset = () => new Error("reset");
/** Lets what waits for promises only go on. */
const settle = () => Bun.sleep(0);

test("pieces pass one by one, and the end is told once", () => {
  const { relay, client, ends } = begin("data: 1\n\n");
  say(relay, "data: 2\n\n", "da", null, null, reset());
  expect([client.text, client.state]).toEqual(["data: 1\n\ndata: 2\n\nda", "ended"]);
  expect(ends).toEqual(["ok"]);
});

test("an engine is asked for no more while its client is behind, and told once each", () => {
  const { relay, client, reading } = begin("data: 1\n\n");
  client.waitingSince = performance.now();
  say(relay, "data: 2\n\n", "data: 3\n\n");
  expect(reading).toEqual([false]);
  client.waitingSince = null;
  relay.drained();
  say(relay, "data: 4\n\n");
  expect(reading).toEqual([false, true]);
  expect(client.text).toBe("data: 1\n\ndata: 2\n\ndata: 3\n\ndata: 4\n\n");
});

test.each([
  ["data: 1\n\n", "data: 1\n\ndata: broken\n\n"],
  ["data: 1\n\ndata: 2", "data: 1\n\ndata: 2\n\ndata: broken\n\n"],
  ["data: 1\n\ndata: 2\n", "data: 1\n\ndata: 2\n\ndata: broken\n\n"],
  ["data: 1\r\n\r\ndata: 2\r", "data: 1\r\n\r\ndata: 2\r\ndata: broken\n\n"],
])("a break behind %j is a frame of its own", (sent, relayed) => {
  const { relay, client, ends } = begin(sent);
  say(relay, reset());
  expect([client.text, client.state]).toEqual([relayed, "ended"]);
  expect(ends).toEqual(["broken"]);
});

test("a break behind the last frame is no break", () => {
  const { relay, client, ends } = begin("data: 1\n\n");
  say(relay, "data: [DONE]\n\n", reset());
  expect([client.text, client.state]).toEqual(["data: 1\n\ndata: [DONE]\n\n", "ended"]);
  expect(ends).toEqual(["ok"]);
});

test("a break in what is no stream of frames is a broken connection", () => {
  const { relay, client, ends } = begin("abc", { format: null });
  say(relay, reset());
  expect([client.text, client.state, ends]).toEqual(["abc", "broken", ["broken"]]);
});

test("comments fill silence, between events only, and never in JSON lines", () => {
  for (const [first, format, isFilled] of [
    ["data: 1\n\n", "sse", true],
    ["data: 1\n\nda", "sse", false],
    ['{"a":1}\n', "ndjson", false],
  ] as const) {
    const { relay, client } = begin(first, { format, keepAliveMs: 20 });
    for (const now of [0, 19, 20, 39, 40]) relay.check(now);
    expect(client.text).toBe(isFilled ? `${first}${KEEP}${KEEP}` : first);
  }
});

test("what comes puts the next comment off", () => {
  const { relay, client } = begin("data: 1\n\n", { keepAliveMs: 20 });
  relay.check(0);
  say(relay, "data: 2\n\n");
  for (const now of [19, 30, 38]) relay.check(now);
  expect(client.text).not.toContain(KEEP);
  relay.check(39);
  expect(client.text).toEndWith(KEEP);
});

test("a client that takes nothing is cut, and gets no comments meanwhile", () => {
  const { relay, client, ends } = begin("data: 1\n\n", { slowClientMs: 20, keepAliveMs: 5 });
  client.waitingSince = 100;
  relay.check(119);
  expect([client.text, ends]).toEqual(["data: 1\n\n", []]);
  relay.check(120);
  expect([client.state, ends]).toEqual(["broken", ["slow_client"]]);
});

test("an engine that says nothing is no slow client", () => {
  const { relay, ends } = begin("data: 1\n\n", { slowClientMs: 20 });
  for (const now of [0, 50, 100]) relay.check(now);
  expect(ends).toEqual([]);
});

test("a client that leaves is told once, and what still comes goes nowhere", () => {
  const { relay, client, ends } = begin("data: 1\n\n");
  relay.left();
  say(relay, "data: 2\n\n", reset());
  relay.left();
  expect([client.text, ends]).toEqual(["data: 1\n\n", ["client_gone"]]);
});

/** What goes on after a break: these, or nothing. */
function continuing(rest: readonly string[] | null) {
  const kept: string[] = [];
  let asked = 0;
  let stopped = 0;
  const gate = Promise.withResolvers<void>();
  return {
    kept,
    asked: () => asked,
    stopped: () => stopped,
    open: gate.resolve,
    keep: (chunk: Uint8Array) => void kept.push(Buffer.from(chunk).toString()),
    failureAt: (chunk: Uint8Array) => Buffer.from(chunk).indexOf("data: fail"),
    async goOn(): Promise<GoingOn | null> {
      asked += 1;
      await gate.promise;
      if (rest === null) return null;
      const [first = "", ...more] = rest;
      return { first: Buffer.from(first), begin: (sink) => say(sink, ...more, null) };
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
  const { relay, client, ends } = beginWhole("data: 1\n\n", other);
  say(relay, "data: 2\n\nda", reset());
  await settle();
  relay.check(0);
  relay.check(20);
  other.open();
  await settle();
  expect(client.text).toBe(
    `data: 1\n\ndata: 2\n\n${KEEP}: llmnode-resumed\n\ndata: 3\n\ndata: [DONE]\n\n`,
  );
  expect(other.kept).toEqual(["data: 1\n\n", "data: 2\n\nda"]);
  expect([ends, client.state, other.stopped()]).toEqual([["ok"], "ended", 1]);
});

test("where nothing goes on, what there was of the frame and the error come as ever", async () => {
  const other = continuing(null);
  other.open();
  const { relay, client, ends } = beginWhole("data: 1\n\n", other);
  say(relay, "da", reset());
  await settle();
  expect(client.text).toBe("data: 1\n\nda\n\ndata: broken\n\n");
  expect([ends, other.asked(), other.stopped()]).toEqual([["broken"], 1, 1]);
});

test("an engine that says it has failed is passed on where nothing goes on, else not", async () => {
  for (const [rest, end] of [
    [null, "data: fail\n\ndata: [DONE]\n\n"],
    [["data: 3\n\n"], ": llmnode-resumed\n\ndata: 3\n\n"],
  ] as const) {
    const other = continuing(rest);
    const { relay, client, ends, reading } = beginWhole("data: 1\n\n", other);
    say(relay, "data: 2\n\ndata: fail\n\n");
    // It is asked for no more; what was on its way may still come.
    expect(reading).toEqual([false]);
    if (rest === null) say(relay, "data: [DONE]\n\n", null);
    other.open();
    await settle();
    expect(client.text).toBe(`data: 1\n\ndata: 2\n\n${end}`);
    expect([ends, other.asked()]).toEqual([["ok"], 1]);
    expect(other.kept.slice(0, 2)).toEqual(["data: 1\n\n", "data: 2\n\n"]);
  }
});

test("a failure that came with the first frame does not reach the client either", async () => {
  const other = continuing(["data: 3\n\n"]);
  other.open();
  const { client } = beginWhole("data: 1\n\ndata: fail\n\n", other);
  await settle();
  expect(client.text).toBe("data: 1\n\n: llmnode-resumed\n\ndata: 3\n\n");
});

test("a stream that breaks twice is over, and so is one whose end was there", async () => {
  const other = continuing(["data: [DONE]\n\n"]);
  other.open();
  const { relay, client, ends } = beginWhole("data: 1\n\n", other);
  say(relay, "data: [DONE]\n\n", reset());
  await settle();
  expect(client.text).toBe("data: 1\n\ndata: [DONE]\n\n");
  expect([ends, other.asked()]).toEqual([["ok"], 0]);
});

test("a client that leaves while something is looked for is told once", async () => {
  const other = continuing(["data: 3\n\n"]);
  const { relay, client, ends } = beginWhole("data: 1\n\n", other);
  say(relay, reset());
  relay.left();
  other.open();
  await settle();
  expect([client.text, ends, other.stopped()]).toEqual(["data: 1\n\n", ["client_gone"], 1]);
});

test("the engine that goes on is read at the client's pace as well", async () => {
  const other = continuing(["data: 3\n\n"]);
  const { relay, client, reading } = beginWhole("data: 1\n\n", other);
  say(relay, reset());
  client.waitingSince = 1;
  other.open();
  await settle();
  expect(reading.at(-1)).toBe(false);
});
