import { describe, expect, test } from "bun:test";
import { type LoadReader, startLoadReader } from "../../../src/engine/ask/load.ts";
import type { LoadSettings } from "../../../src/engine/ask/load.ts";
import type { EngineKind } from "../../../src/engine/status.ts";
import type { EngineState } from "../../../src/protocol/engine-report.ts";
import { LIKES } from "../../../src/sim/core/options.ts";
import { memoryLog } from "../../helpers/cluster.ts";
import { chat, quickSim } from "../../sim/harness.ts";
import { until } from "../harness.ts";

const QUICK: Partial<LoadSettings> = { everyMs: 20, busyMs: 5, timeoutMs: 300, retryMs: 60 };

interface Asked {
  path: string;
  key: string | null;
  at: number;
}

/** A server whose every answer the test writes, and how it was asked. */
function serve(answer: (path: string) => Response | Promise<Response>) {
  const asked: Asked[] = [];
  let running = 0;
  let most = 0;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const key = request.headers.get("authorization");
      asked.push({ path: pathname + search, key, at: performance.now() });
      running += 1;
      most = Math.max(most, running);
      try {
        return await answer(pathname);
      } finally {
        running -= 1;
      }
    },
  });
  return {
    url: server.url.origin,
    asked,
    mostAtOnce: () => most,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

interface Watched extends AsyncDisposable {
  reader: LoadReader;
  log: string[];
  /** What the supervisor says about the engine. */
  status: { state: EngineState; kind: EngineKind; run: string | null; url: string | null };
}

function watch(
  kind: EngineKind,
  url: string,
  { apiKey = null, ...settings }: Partial<LoadSettings> & { apiKey?: string | null } = {},
): Watched {
  const { log, lines } = memoryLog();
  const status: Watched["status"] = { state: "ready", kind, run: "r1", url };
  const reader = startLoadReader({
    status: () => status,
    apiKey,
    log,
    settings: { ...QUICK, ...settings },
  });
  return { reader, log: lines, status, [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose]() };
}

const vllm = (running: number, waiting = 0, tokens = 0) =>
  new Response(
    `vllm:num_requests_running ${running}\nvllm:num_requests_waiting ${waiting}\n` +
      `vllm:generation_tokens_total ${tokens}\n`,
  );

describe.each([...LIKES])("the simulated engine like %s", (like) => {
  test("tells what it runs, as a kind of its own and as the simulated one", async () => {
    if (like === "ollama") return; // It has nowhere to tell it; see below.
    await using sim = await quickSim({ like, itlMs: 10_000 });
    await using own = watch(like, sim.url);
    await using simulated = watch("sim", sim.url);
    for (const { reader } of [own, simulated]) {
      await until(() => reader.latest()?.load.running === 0, `${like} is idle`);
    }
    const stop = new AbortController();
    const streams = [1, 2].map(() => {
      const body = JSON.stringify({
        model: "test/model-1",
        stream: true,
        messages: [{ role: "user", content: "hello" }],
      });
      const headers = { "content-type": "application/json" };
      const init = { method: "POST", body, headers, signal: stop.signal };
      return fetch(`${sim.url}/v1/chat/completions`, init);
    });
    await Promise.all(streams);
    for (const { reader } of [own, simulated]) {
      await until(() => reader.latest()?.load.running === 2, `${like} runs two`);
    }
    stop.abort();
    await until(() => own.reader.latest()?.load.running === 0, `${like} is idle again`);
    expect(own.log).toEqual([]);
  });
});

test("tokens that flow are seen, and standing still is not taken for it", async () => {
  await using sim = await quickSim();
  await using engine = watch("vllm", sim.url);
  await until(() => engine.reader.latest() !== null, "the first figures");
  expect(engine.reader.flowAgeMs()).toBeNull();
  await (await chat(sim, { max_tokens: 5 })).text();
  await until(() => engine.reader.flowAgeMs() !== null, "tokens that flowed");
  const before = engine.reader.flowAgeMs() ?? 0;
  const from = performance.now();
  await until(() => performance.now() - from > 60, "some readings");
  expect(engine.reader.flowAgeMs() ?? 0).toBeGreaterThan(before);
});

test("an engine that has nowhere to tell its load is not asked, and not complained about", async () => {
  await using server = serve(() => new Response("no", { status: 404 }));
  for (const kind of ["ollama", "generic"] as const) {
    await using engine = watch(kind, server.url);
    await Bun.sleep(60);
    expect(engine.reader.latest()).toBeNull();
    expect(engine.log).toEqual([]);
  }
  expect(server.asked).toEqual([]);
});

test("one reading at a time, with the key; faster while requests wait", async () => {
  let waiting = 0;
  await using server = serve(async () => {
    await Bun.sleep(15);
    return vllm(1, waiting);
  });
  await using engine = watch("vllm", server.url, { apiKey: "k", everyMs: 200, busyMs: 1 });
  await until(() => server.asked.length >= 2, "two readings");
  waiting = 3;
  await until(() => engine.reader.latest()?.load.waiting === 3, "requests that wait");
  const from = server.asked.length;
  await until(() => server.asked.length >= from + 4, "quick readings");
  const [first, , , last] = server.asked.slice(from);
  expect((last?.at ?? 0) - (first?.at ?? 0)).toBeLessThan(3 * 200);
  expect(server.mostAtOnce()).toBe(1);
  expect(new Set(server.asked.map(({ key }) => key))).toEqual(new Set(["Bearer k"]));
});

test("what does not tell is said once, with what to do, and tried again later", async () => {
  let isOn = false;
  await using server = serve(() => (isOn ? vllm(4) : new Response("", { status: 404 })));
  await using engine = watch("vllm", server.url);
  await until(() => server.asked.length >= 3, "three tries");
  expect(engine.log.length).toBe(1);
  expect(engine.log[0]).toContain("the engine's load is not known: GET /metrics answers 404");
  expect(engine.log[0]).toContain("--disable-log-stats");
  isOn = true;
  await until(() => engine.reader.latest()?.load.running === 4, "figures after all");
});

test("the next source is taken where the first is missing", async () => {
  await using server = serve((path) =>
    path === "/metrics"
      ? new Response("sglang:num_running_reqs 2\n")
      : new Response("", { status: 404 }),
  );
  await using engine = watch("sglang", server.url);
  await until(() => engine.reader.latest()?.load.running === 2, "figures");
  await until(() => server.asked.length >= 4, "more readings");
  const paths = server.asked.map(({ path }) => path);
  expect(paths.slice(0, 4)).toEqual(["/v1/loads?include=core", "/metrics", "/metrics", "/metrics"]);
  expect(engine.log).toEqual([]);
});

test("figures grow old while the engine is silent, answers too much or breaks off", async () => {
  let answer = () => Promise.resolve(vllm(5));
  await using server = serve(() => answer());
  await using engine = watch("vllm", server.url, { timeoutMs: 30, maxBytes: 1000 });
  await until(() => engine.reader.latest() !== null, "figures");
  const faults = [
    () => Bun.sleep(200).then(() => vllm(6)),
    () => Promise.resolve(new Response(`${"#".repeat(5000)}\nvllm:num_requests_running 6\n`)),
    () => Promise.resolve(new Response("", { status: 500 })),
    () => Promise.resolve(new Response("vllm:num_requests_running NaN\n")),
  ];
  for (const fault of faults) {
    answer = fault;
    await until(() => (engine.reader.latest()?.ageMs ?? 0) > 60, "old figures");
    expect(engine.reader.latest()?.load.running).toBe(5);
    answer = () => Promise.resolve(vllm(5));
    await until(() => (engine.reader.latest()?.ageMs ?? 1e9) < 40, "new figures");
  }
});

test("another run and another state begin with nothing known", async () => {
  await using server = serve(() => vllm(5, 0, 7));
  await using engine = watch("vllm", server.url);
  const isKnown = () => engine.reader.latest() !== null;
  await until(isKnown, "figures");
  engine.status.run = "r2";
  expect(engine.reader.latest()).toBeNull();
  await until(isKnown, "figures of the next run");
  engine.status.state = "backoff";
  expect(engine.reader.latest()).toBeNull();
  const count = server.asked.length;
  await Bun.sleep(60);
  // One may have been under way.
  expect(server.asked.length).toBeLessThanOrEqual(count + 1);
  engine.status.state = "unhealthy";
  await until(isKnown, "figures of an engine that is not well");
});

test("a source that empties itself by being read is read only if asked for", async () => {
  const steps = [{ iter: 1, numActiveRequests: 3, kvCacheStats: {} }];
  await using server = serve((path) =>
    path === "/metrics" ? Response.json(steps) : new Response("", { status: 404 }),
  );
  await using careful = watch("trtllm", server.url);
  await until(() => careful.log.length === 1, "the line");
  expect(new Set(server.asked.map(({ path }) => path))).toEqual(new Set(["/prometheus/metrics"]));
  await using greedy = watch("trtllm", server.url, { destructive: true });
  await until(() => greedy.reader.latest()?.load.running === 3, "figures");
});

test("its end waits for nothing", async () => {
  await using server = serve(() => Bun.sleep(5000).then(() => vllm(1)));
  const engine = watch("vllm", server.url, { timeoutMs: 5000 });
  await until(() => server.asked.length === 1, "a reading under way");
  const from = performance.now();
  await engine[Symbol.asyncDispose]();
  expect(performance.now() - from).toBeLessThan(2000);
  expect(engine.log).toEqual([]);
});
