import { expect, test } from "bun:test";
import { createEvents } from "../../../src/head/events/events.ts";
import { createEventNotes } from "../../../src/head/events/notes.ts";
import { createRates } from "../../../src/head/watch/rates.ts";
import { createRequestsTable } from "../../../src/head/watch/requests-table.ts";
import { readWatchQuery, readWatchWords } from "../../../src/head/watch/query.ts";
import { createWatch } from "../../../src/head/watch/watch.ts";
import { startWatchSource } from "../../../src/head/watch/data.ts";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import type { WatchFrame, WatchHello, WatchLag } from "../../../src/protocol/watch-json.ts";
import type { WorkerRow } from "../../../src/protocol/watch-rows.ts";
import { addWorker, cluster, T0 } from "../../cluster/fixtures.ts";
import { FAST, startTestHead } from "../../helpers/cluster.ts";
import { waitFor } from "../../helpers/wait.ts";

const HEAD = { id: "h", version: "0", uptime_ms: 5, session_port: 1 };
const QUERY = readWatchQuery({ interval_ms: 200 });

function stage(workers: number, settings: { maxViewers?: number; keepAliveMs?: number } = {}) {
  const stack = new DisposableStack();
  const state = cluster();
  for (let i = 0; i < workers; i += 1) {
    addWorker(state, `gpu-${String(i).padStart(4, "0")}`, { models: ["m"] });
  }
  const rates = createRates({ now: () => T0 });
  const events = createEvents({ now: () => T0 });
  const source = stack.use(
    startWatchSource({
      state,
      catalog: createCatalogReader(state),
      aliases: { names: () => ["fast"], modelsOf: () => ["m"] },
      rates,
      requests: createRequestsTable({ now: () => T0, rates }),
      clients: () => 0,
      now: () => T0,
    }),
  );
  const watch = stack.use(
    createWatch({ source, events, head: () => HEAD, now: () => T0, settings }),
  );
  return { state, events, watch, [Symbol.dispose]: () => stack.dispose() };
}

interface Heard {
  hello: WatchHello | null;
  frames: WatchFrame[];
  lags: WatchLag[];
  comments: number;
  bytes: number;
  ended: boolean;
}

/** Reads a stream until it ends or is let go of. */
function listen(response: Response): Heard & { stop(): Promise<void>; pause(on: boolean): void } {
  const heard: Heard = { hello: null, frames: [], lags: [], comments: 0, bytes: 0, ended: false };
  const reader = response.body?.getReader();
  let paused: Promise<void> | null = null;
  let go = () => {};
  const take = (block: string) => {
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (block.startsWith(":")) heard.comments += 1;
    if (data === undefined) return;
    if (block.startsWith("event: hello")) heard.hello = JSON.parse(data) as WatchHello;
    if (block.startsWith("event: frame")) heard.frames.push(JSON.parse(data) as WatchFrame);
    if (block.startsWith("event: lag")) heard.lags.push(JSON.parse(data) as WatchLag);
  };
  void (async () => {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      if (paused) await paused;
      const read = await reader?.read();
      if (!read || read.done) break;
      heard.bytes += read.value.length;
      rest += decoder.decode(read.value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      blocks.forEach(take);
    }
    heard.ended = true;
  })();
  return Object.assign(heard, {
    stop: async () => void (await reader?.cancel()),
    pause(on: boolean) {
      if (on) paused = new Promise<void>((resolve) => void (go = resolve));
      else {
        paused = null;
        go();
      }
    },
  });
}

const VIEWER = { role: "operator" as const, apiUrl: "http://x", onEnd() {} };

test("hello, then frames of the window that is looked at, and another query at once", async () => {
  using on = stage(30);
  const heard = listen(on.watch.open({ ...QUERY, limit: 5, models_beside: 3 }, VIEWER));
  await waitFor(() => heard.frames.length > 0, { what: "a frame" });
  expect(heard.hello).toMatchObject({ role: "operator", head: { id: "h", api_url: "http://x" } });
  const [first] = heard.frames;
  expect(first).toMatchObject({
    frame: 1,
    total: 30,
    matching: 30,
    offset: 0,
    filter_problem: null,
  });
  expect((first?.rows as WorkerRow[]).map(({ name }) => name)).toEqual(
    [0, 1, 2, 3, 4].map((i) => `gpu-000${i}`),
  );
  expect(first?.models_beside.map(({ name }) => name)).toEqual(["fast", "m"]);
  expect(first?.strip).toBe("*".repeat(30));
  const id = heard.hello?.watch ?? "";
  on.watch.ask(id, { ...QUERY, offset: 28, sort: "-name", filter: "gpu-00", detail: "gpu-0003" });
  await waitFor(() => heard.frames.some(({ offset }) => offset === 28), {
    what: "the other window",
  });
  const other = heard.frames.find(({ offset }) => offset === 28);
  expect((other?.rows as WorkerRow[]).map(({ name }) => name)).toEqual(["gpu-0001", "gpu-0000"]);
  expect(other?.detail).toMatchObject({
    worker: { name: "gpu-0003", engines: [{ name: "gpu-0003/1" }] },
  });
  on.watch.ask(id, { ...QUERY, filter: "speed>1" });
  await waitFor(() => heard.frames.at(-1)?.filter_problem !== null, { what: "the problem" });
  expect(heard.frames.at(-1)).toMatchObject({
    rows: [],
    total: 30,
    filter_problem: { message: "no field speed", at: 0 },
  });
  expect(() => on.watch.ask("none", QUERY)).toThrow("This stream has ended");
  await heard.stop();
  expect(on.watch.viewers).toBe(0);
});

test("who does not read gets fewer frames and is told; nothing piles up", async () => {
  using on = stage(3);
  const heard = listen(on.watch.open(QUERY, VIEWER));
  await waitFor(() => heard.frames.length > 0, { what: "a frame" });
  heard.pause(true);
  const before = heard.frames.length;
  await Bun.sleep(1500);
  heard.pause(false);
  await waitFor(() => heard.lags.length > 0, { what: "the lag" });
  expect(heard.lags[0]?.dropped).toBeGreaterThan(1);
  // One was on its way and one waited, at most.
  expect((heard.frames.at(-1)?.frame ?? 0) - before).toBeLessThan(6);
  await heard.stop();
});

test("signs of life while frames are rare, an end with the head, and so many viewers", async () => {
  using on = stage(1, { maxViewers: 2, keepAliveMs: 100 });
  const slow = listen(on.watch.open({ ...QUERY, interval_ms: 400 }, VIEWER));
  const second = listen(on.watch.open(QUERY, VIEWER));
  expect(() => on.watch.open(QUERY, VIEWER)).toThrow("already 2 viewers");
  await waitFor(() => slow.frames.length > 2 && second.frames.length > 0, { what: "frames" });
  on.watch[Symbol.dispose]();
  await waitFor(() => slow.ended && second.ended, { what: "the end" });
  expect(on.watch.viewers).toBe(0);
});

test("a frame of a thousand workers is as large as its window", async () => {
  using on = stage(1000);
  const frame = await on.watch.frame({ ...QUERY, limit: 45 });
  expect(frame.totals.workers.total).toBe(1000);
  expect(JSON.stringify(frame).length).toBeLessThan(60_000);
  expect(frame.strip.length).toBe(1000);
});

test.each([
  [{ view: "everything" }, "view"],
  [{ limit: "0" }, "limit"],
  [{ limit: "10001" }, "limit"],
  [{ offset: "-1" }, "offset"],
  [{ interval_ms: "10" }, "interval_ms"],
  [{ interval: "5y" }, "interval"],
  [{ filter: "x".repeat(600) }, "filter"],
])("%p is refused", (words, param) => {
  try {
    readWatchWords(new URLSearchParams(words as Record<string, string>));
    throw new Error("it was taken");
  } catch (error) {
    expect(error).toMatchObject({ code: "bad_request", param });
  }
});

test("words and bodies mean the same", () => {
  const words = new URLSearchParams("view=models&sort=-name&limit=7&interval=2s&gone=1&detail=m");
  const body = {
    view: "models",
    sort: "-name",
    limit: 7,
    interval_ms: 2000,
    gone: true,
    detail: "m",
  };
  expect(readWatchWords(words)).toEqual(readWatchQuery(body));
});

test("requests that are moved together are one event", async () => {
  const events = createEvents({ now: () => T0 });
  using notes = createEventNotes(events, 20);
  const state = cluster();
  const { worker, engine } = addWorker(state, "a", { models: ["m"] });
  notes.transition({
    worker: { ...worker, reason: "silent for 15s", inFlight: 2 },
    from: "stale",
    to: "lost",
  });
  const lease = { workerName: "a" } as never;
  notes.reschedules(
    Array.from({ length: 39 }, () => ({ lease, kind: "move", reason: "worker a is lost" })),
  );
  notes.engine(worker, {
    ...engine,
    report: { ...engine.report, state: "backoff", reason: "exit code 1" },
  });
  notes.transition({ worker, from: "lost", to: "ready" });
  await waitFor(() => events.last === 4, { what: "the events" });
  expect(events.list().map(({ kind, level, text }) => [kind, level, text])).toEqual([
    ["lost", "error", "lost: silent for 15s, 2 requests in flight"],
    ["crashed", "error", "engine vllm backoff: exit code 1"],
    ["back", "info", "is back after it was lost"],
    ["retried", "warn", "39 requests moved elsewhere: worker a is lost"],
  ]);
});

test.each([
  ["a stream that has ended", "abc", "{}", 404],
  ["a name that is badly encoded", "%E0%A4%A", "{}", 404],
  ["a body that is no JSON", "abc", "{", 400],
])("%s has no other query", async (_, id, body, status) => {
  await using head = await startTestHead(FAST);
  expect((await head.post(`/api/v1/watch/${id}`, body)).status).toBe(status);
});
