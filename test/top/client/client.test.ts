import { afterEach, describe, expect, test } from "bun:test";
import { getStream, postJson } from "../../../src/cli/client/api.ts";
import type { WatchQuery } from "../../../src/protocol/watch-json.ts";
import {
  type ClientOptions,
  type ClientSettings,
  type HeadCalls,
  startClient,
  type WatchClient,
} from "../../../src/top/client/client.ts";
import { doActions } from "../../../src/top/client/acts.ts";
import type { TopEvent } from "../../../src/top/state/event.ts";
import { readEvents } from "../../../src/top/client/sse.ts";
import { waitFor } from "../../helpers/wait.ts";
import { type FakeHead, startFakeHead } from "../fake-head.ts";

const QUERY: WatchQuery = {
  view: "workers",
  sort: "problems",
  filter: "",
  offset: 0,
  limit: 40,
  interval_ms: 20,
  gone: false,
  models_beside: 0,
  detail: null,
};

function callsOf(url: string): HeadCalls {
  const client = { url, timeoutMs: 5000, retryPausesMs: [] };
  return {
    stream: (path, signal) => getStream(client, path, signal),
    post: (path, body) => postJson(client, path, body),
  };
}

interface Watching {
  events: TopEvent[];
  downs(): Extract<TopEvent, { type: "down" }>[];
  types(): string[];
  query: WatchQuery;
  client: WatchClient;
}

const open: Disposable[] = [];
afterEach(() => open.splice(0).forEach((one) => one[Symbol.dispose]()));

function watch(
  url: string,
  settings: Partial<ClientSettings> = {},
  more: Partial<ClientOptions> = {},
): Watching {
  const events: TopEvent[] = [];
  const watching: Watching = {
    events,
    downs: () => events.filter((event) => event.type === "down"),
    types: () => events.map(({ type }) => type),
    query: QUERY,
    client: startClient({
      head: callsOf(url),
      query: () => watching.query,
      onEvent: (event) => void events.push(event),
      now: () => performance.now(),
      random: () => 0.5,
      settings: { backoffMs: [10, 20, 40], ...settings },
      ...more,
    }),
  };
  open.push(watching.client);
  return watching;
}

const onFrame = (one: Watching) =>
  waitFor(() => one.types().includes("frame"), { what: "a frame" });

test("a hello comes first, then frames", async () => {
  await using head = startFakeHead();
  const one = watch(head.url);
  await waitFor(() => one.events.length >= 4, { what: "frames" });
  expect(one.types().slice(0, 3)).toEqual(["hello", "frame", "frame"]);
});

test("another query is told once, without a new stream", async () => {
  await using head = startFakeHead();
  const one = watch(head.url);
  await onFrame(one);
  one.client.syncQuery();
  one.client.syncQuery();
  expect(head.posts).toBe(0);
  one.query = { ...QUERY, view: "models" };
  one.client.syncQuery();
  one.client.syncQuery();
  await waitFor(() => head.query?.view === "models", { what: "the query" });
  one.client.syncQuery();
  await waitFor(() => one.events.length > 6, { what: "frames" });
  expect([head.posts, head.streams]).toEqual([1, 1]);
});

test("a stream that the head does not know any more is opened anew, with the new query", async () => {
  await using head = startFakeHead();
  const one = watch(head.url);
  await onFrame(one);
  head.forget();
  one.query = { ...QUERY, filter: "lost" };
  one.client.syncQuery();
  await waitFor(() => head.streams === 2 && head.query?.filter === "lost", { what: "a stream" });
  expect(one.downs()).toEqual([]);
});

describe("a head that cannot be reached", () => {
  test("is asked again after longer and longer pauses", async () => {
    const head = startFakeHead();
    const { url } = head;
    await head[Symbol.asyncDispose]();
    const one = watch(url, {}, { now: () => 1000 });
    await waitFor(() => one.downs().length >= 5, { what: "tries" });
    const downs = one.downs().slice(0, 5);
    expect(downs.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5]);
    expect(downs.map(({ retryAt }) => retryAt - 1000)).toEqual([10, 20, 40, 40, 40]);
    expect(downs.every(({ isAuth }) => !isAuth)).toBe(true);
    expect(downs[0]?.reason).toBe("connection refused");
  });

  test("at the same time by few: pauses differ by a fifth", async () => {
    const head = startFakeHead();
    const { url } = head;
    await head[Symbol.asyncDispose]();
    const one = watch(url, { backoffMs: [100] }, { now: () => 0, random: () => 1 });
    await waitFor(() => one.downs().length >= 1);
    expect(one.downs()[0]?.retryAt).toBeCloseTo(120);
  });

  test("is asked at once when a person wants it", async () => {
    const head = startFakeHead();
    const { url } = head;
    await head[Symbol.asyncDispose]();
    const one = watch(url, { backoffMs: [60_000] });
    await waitFor(() => one.downs().length === 1);
    one.client.retryNow();
    await waitFor(() => one.downs().length === 2, { what: "another try" });
    expect(one.downs()[1]?.attempt).toBe(1);
  });

  test("that ends the stream is back with the next one; its id tells a new life", async () => {
    await using head = startFakeHead();
    const one = watch(head.url);
    await onFrame(one);
    head.id = "head-b";
    head.cut();
    await waitFor(() => one.types().filter((type) => type === "hello").length === 2);
    expect(one.downs()).toHaveLength(1);
    const last = one.events.findLast((event) => event.type === "hello");
    expect(last?.type === "hello" && last.hello.head.id).toBe("head-b");
  });

  test("that is silent is left", async () => {
    await using head = startFakeHead();
    const one = watch(head.url, { silenceMs: 50 });
    await onFrame(one);
    head.ticking = false;
    await waitFor(() => one.downs().length >= 1, { what: "silence" });
    expect(one.downs()[0]?.reason).toBe("no data from the head");
  });
});

test("who is not allowed to look asks seldom", async () => {
  await using head = startFakeHead();
  head.status = 401;
  const one = watch(head.url, { refusedMs: 30_000 }, { now: () => 0 });
  await waitFor(() => one.downs().length === 1);
  expect(one.downs()[0]).toMatchObject({
    isAuth: true,
    retryAt: 30_000,
    reason: "no key, no view",
  });
});

describe("a head of another version", () => {
  test("that speaks something else is told, and asked with longer pauses", async () => {
    await using head = startFakeHead();
    head.schema = "llmnode.watch/2";
    const one = watch(head.url, {}, { now: () => 0 });
    await waitFor(() => one.downs().length >= 3);
    expect(one.downs()[0]?.reason).toBe(
      "the head speaks llmnode.watch/2, this llmnode llmnode.watch/1: update the older one",
    );
    expect(
      one
        .downs()
        .map(({ retryAt }) => retryAt)
        .slice(0, 3),
    ).toEqual([10, 20, 40]);
  });

  test("that sends frames without what we need is no head that is back", async () => {
    await using head = startFakeHead();
    head.more = { totals: undefined };
    const one = watch(head.url, {}, { now: () => 0 });
    await waitFor(() => one.downs().length >= 2);
    expect(one.downs()[1]).toMatchObject({
      reason: "what the head sends has no totals",
      attempt: 2,
    });
    expect(one.types()).not.toContain("frame");
  });
});

test("closed, it asks no more and tells no more", async () => {
  await using head = startFakeHead();
  const one = watch(head.url);
  await onFrame(one);
  one.client[Symbol.dispose]();
  const { length } = one.events;
  await waitFor(() => head.query === null, { what: "the end of the stream" });
  expect(one.events.length).toBe(length);
});

describe("what is done at the head", () => {
  const by = (head: FakeHead) => ({ head: callsOf(head.url), who: "ops@desk" });
  const of = (verb: "drain" | "restart" | "undrain" | "forget", worker = "gpu-01") => ({
    verb,
    worker,
    id: `id-${worker}`,
    force: false,
  });

  test("workers are drained together, by their ids", async () => {
    await using head = startFakeHead();
    const results = await doActions(by(head), [of("drain"), of("drain", "gpu-02")]);
    expect(results.map(({ ok, text }) => [ok, text])).toEqual([
      [true, "2 workers: draining (undo: U)"],
      [true, "2 workers: draining (undo: U)"],
    ]);
    expect(head.acts).toEqual([
      {
        path: "/api/v1/workers/drain",
        body: {
          workers: ["id-gpu-01", "id-gpu-02"],
          who: "ops@desk",
          force: false,
          deadline_ms: 600_000,
        },
      },
    ]);
  });

  test("requests are cancelled and workers forgotten one after the other", async () => {
    await using head = startFakeHead();
    await doActions(by(head), [
      { verb: "cancel", request: "r1", force: false },
      { verb: "cancel", request: "r2", force: false },
    ]);
    await doActions(by(head), [of("forget")]);
    expect(head.acts).toEqual([
      { path: "/api/v1/requests/cancel", body: { id: "r1" } },
      { path: "/api/v1/requests/cancel", body: { id: "r2" } },
      { path: "/api/v1/workers/forget", body: { worker: "id-gpu-01" } },
    ]);
  });

  test("a refusal for a last replica names the models", async () => {
    await using head = startFakeHead();
    head.refusal = {
      status: 409,
      code: "last_replica",
      message: "gpu-01 has it",
      last: ["m, n", "o"],
    };
    const [result] = await doActions(by(head), [of("restart")]);
    expect(result).toMatchObject({ ok: false, text: "gpu-01 has it", lastOf: ["m, n", "o"] });
  });

  test("any other refusal is told as it is", async () => {
    await using head = startFakeHead();
    head.refusal = { status: 409, code: "refused", message: "gpu-01 is lost", last: [] };
    const [result] = await doActions(by(head), [of("undrain")]);
    expect(result).toMatchObject({ ok: false, text: "gpu-01 is lost", lastOf: [] });
    expect(await doActions(by(head), [])).toEqual([]);
  });
});

test("events come whole, however the bytes are cut", async () => {
  const text = ": hi\n\nevent: a\ndata: 1\ndata: 2\n\nretry: 5\n\nevent: b\r\ndata:x工\r\n\r\n";
  const bytes = new TextEncoder().encode(text);
  for (let cut = 0; cut < bytes.length; cut += 1) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.slice(0, cut));
        controller.enqueue(bytes.slice(cut));
        controller.close();
      },
    });
    const events = await Array.fromAsync(readEvents(body));
    expect(events).toEqual([
      { event: "a", data: "1\n2" },
      { event: "b", data: "x工" },
    ]);
  }
});
