import { expect, test } from "bun:test";
import { createCatalogReader } from "../../../src/cluster/state/catalog.ts";
import { reportLoads } from "../../../src/cluster/state/load.ts";
import { acquire } from "../../../src/cluster/dispatch/dispatch.ts";
import type { ClusterState } from "../../../src/cluster/state/state.ts";
import { withTelemetry } from "../../../src/cluster/state/telemetry.ts";
import {
  createMetrics,
  type Metrics,
  type MetricsLimits,
} from "../../../src/head/metrics/metrics.ts";
import { errorCodeOf } from "../../../src/proxy/record/record-facts.ts";
import type { Heartbeat } from "../../../src/protocol/messages.ts";
import type { RequestRecord } from "../../../src/proxy/record/record.ts";
import { addWorker, cluster, router, T0, request } from "../../cluster/fixtures.ts";
import { parseExposition, valueOf } from "../../helpers/exposition.ts";
import { AT, attempt, eventful, record } from "../../helpers/record.ts";
import { waitFor } from "../../helpers/wait.ts";

/** A cluster of the two workers that the records name. */
function twoWorkers(): ClusterState {
  const state = cluster();
  for (const name of ["gpu-1", "gpu-2"]) addWorker(state, name, { models: [] });
  return state;
}

const AFFINITY = new Map([["qwen", { hit: 3, miss: 2, overridden: 1 }]]);

function metricsOf(
  state: ClusterState = twoWorkers(),
  limits: Partial<MetricsLimits> = {},
  now = T0,
): Metrics {
  const source = { state, catalog: createCatalogReader(state), affinity: () => AFFINITY };
  return createMetrics({ version: "1.2.3", bun: "9.9", ...source, now: () => now, limits });
}

async function scrape(metrics: Metrics) {
  return parseExposition(await (await metrics.answer()).text());
}

/** Lines of one metric. */
async function linesOf(metrics: Metrics, name: string): Promise<string[]> {
  return (await (await metrics.answer()).text())
    .split("\n")
    .filter((line) => line.startsWith(name));
}

const CHAT = { route: "/v1/chat/completions" };
const GEN_AI = {
  gen_ai_operation_name: "chat",
  gen_ai_request_model: "qwen",
  gen_ai_response_model: "qwen",
};

test("a stream that went well is counted once, everywhere", async () => {
  using metrics = metricsOf();
  metrics.observe(record());
  const found = await scrape(metrics);
  const value = (name: string, labels: Record<string, string> = {}) => valueOf(found, name, labels);
  expect(value("llmnode_requests_total", { ...CHAT, model: "qwen", status: "200" })).toBe(1);
  expect(value("llmnode_attempts_total", { model: "qwen", worker: "gpu-1", outcome: "ok" })).toBe(
    1,
  );
  expect(value("gen_ai_server_request_duration_seconds_sum", GEN_AI)).toBeCloseTo(2.1);
  expect(value("gen_ai_server_time_to_first_token_seconds_sum", GEN_AI)).toBeCloseTo(0.11);
  expect(value("gen_ai_server_time_per_output_token_seconds_sum", GEN_AI)).toBeCloseTo(1.99 / 40);
  expect(value("llmnode_queue_wait_seconds_sum", { model: "qwen" })).toBeCloseTo(0.01);
  // 110 ms to the first data, of which 1 for the body, 10 for a replica, 98 for the engine.
  expect(value("llmnode_proxy_overhead_seconds_sum", CHAT)).toBeCloseTo(0.001);
  const tokens = (type: string) => value("llmnode_tokens_total", { model: "qwen", type });
  expect([tokens("input"), tokens("output"), tokens("cached_input"), tokens("reasoning")]).toEqual([
    300, 41, 256, 8,
  ]);
  expect(value("gen_ai_client_token_usage_sum", { ...GEN_AI, gen_ai_token_type: "output" })).toBe(
    41,
  );
  for (const name of ["request_errors", "retries", "stream_truncated", "client_disconnects"]) {
    expect(found.get(`llmnode_${name}_total`)?.samples).toEqual([]);
  }
});

test("the text is exactly Prometheus'", async () => {
  using metrics = metricsOf();
  metrics.observe(record());
  metrics.observe(record({ queueMs: 700 }));
  expect(await linesOf(metrics, "llmnode_queue_wait_seconds")).toEqual(
    [
      '_bucket{model="qwen",le="0.001"} 0',
      '_bucket{model="qwen",le="0.01"} 1',
      '_bucket{model="qwen",le="0.1"} 1',
      '_bucket{model="qwen",le="0.5"} 1',
      ...[1, 2.5, 5, 10, 30, 60, 120, 300, 600, "+Inf"].map(
        (le) => `_bucket{model="qwen",le="${le}"} 2`,
      ),
      '_sum{model="qwen"} 0.71',
      '_count{model="qwen"} 2',
    ].map((line) => `llmnode_queue_wait_seconds${line}`),
  );
  expect(await linesOf(metrics, "# HELP llmnode_requests_total")).toEqual([
    "# HELP llmnode_requests_total Finished requests; 499: the client left.",
  ]);
  expect(await linesOf(metrics, "# TYPE llmnode_requests_total")).toEqual([
    "# TYPE llmnode_requests_total counter",
  ]);
  expect(await linesOf(metrics, "llmnode_requests_total")).toEqual([
    'llmnode_requests_total{route="/v1/chat/completions",model="qwen",status="200"} 2',
  ]);
  expect((await metrics.answer()).headers.get("content-type")).toBe(
    "text/plain; version=0.0.4; charset=utf-8",
  );
});

/** A heartbeat with all that can be measured. */
const measured: Heartbeat = {
  sequence: 1,
  host: {
    cpuPercent: 10,
    memoryUsedBytes: 1,
    memoryBytes: 2,
    diskFreeBytes: 3,
    netRxBytesPerS: 4,
    netTxBytesPerS: 5,
    ageMs: 0,
  },
  gpus: [
    {
      uuid: "GPU-1",
      index: 0,
      name: "NVIDIA H200",
      utilizationPercent: 100,
      memoryUsedBytes: 1,
      memoryTotalBytes: 2,
      engineMemoryBytes: 1,
      powerWatts: 3,
      powerLimitWatts: 4,
      temperatureCelsius: 5,
      unified: false,
      migParent: "",
      ageMs: 0,
    },
  ],
};

test("every line of a full scrape parses, each metric is told once, histograms add up", async () => {
  const state = cluster();
  const { worker } = addWorker(state, "gpu-1", { models: ["qwen", "llama"] });
  worker.hardware = withTelemetry(worker.hardware, measured, T0);
  using metrics = metricsOf(state);
  for (const one of eventful()) metrics.observe(one);
  const found = await scrape(metrics);
  // What workers have not told yet has no sample.
  const told = [...found].filter(([name]) => !/^llmnode_(?:engine|gpu|host)_/.test(name));
  expect(told.filter(([, { samples }]) => samples.length === 0)).toEqual([]);
  expect(found.size).toBeGreaterThan(20);
});

test("failures are counted by codes of a closed set, never by an engine's words", async () => {
  using metrics = metricsOf();
  const words = "prompt 'hello' is too long";
  const rejected = attempt({ outcome: "rejected", status: 400, firstByteAt: null });
  const cases: [Partial<RequestRecord>, string][] = [
    [{ status: 404, error: "model_not_found", attempts: [] }, "model_not_found"],
    [{ status: 400, error: words, attempts: [rejected] }, "rejected"],
    [{ status: 200, error: "broken", attempts: [attempt({ outcome: "broken" })] }, "broken"],
    [{ status: 200, error: words, attempts: [attempt()] }, "engine_error"],
    [{ status: 200, error: "toString", attempts: [attempt()] }, "engine_error"],
  ];
  for (const [more, code] of cases) {
    expect(errorCodeOf(record(more))).toBe(code);
    metrics.observe(record(more));
  }
  const text = await (await metrics.answer()).text();
  expect(text).not.toContain("hello");
  const found = parseExposition(text);
  const errors = (code: string) =>
    valueOf(found, "llmnode_request_errors_total", { ...CHAT, model: "qwen", code });
  expect([errors("rejected"), errors("broken"), errors("engine_error")]).toEqual([1, 1, 2]);
  const { gen_ai_response_model: _, ...request } = GEN_AI;
  const labels = { ...request, error_type: "rejected" };
  expect(valueOf(found, "gen_ai_server_request_duration_seconds_count", labels)).toBe(1);
});

test("retries, truncations and disconnects say where and why", async () => {
  using metrics = metricsOf();
  for (const one of eventful()) metrics.observe(one);
  const found = await scrape(metrics);
  const value = (name: string, labels: Record<string, string>) => valueOf(found, name, labels);
  expect(value("llmnode_retries_total", { model: "qwen", reason: "unreachable" })).toBe(1);
  expect(value("llmnode_stream_truncated_total", { model: "qwen", worker: "gpu-1" })).toBe(1);
  const left = (model: string, phase: string) =>
    value("llmnode_client_disconnects_total", { model, phase });
  expect(left("unresolved", "body")).toBe(1);
  expect(left("unresolved", "queue")).toBe(1);
  expect(left("qwen", "engine")).toBe(1);
  expect(left("qwen", "answer")).toBe(1);
  expect(value("llmnode_tokens_total", { model: "qwen", type: "output_estimated" })).toBe(41);
});

test("a client that is too slow has not left by itself", async () => {
  using metrics = metricsOf();
  const slow = [attempt({ outcome: "slow_client" })];
  metrics.observe(record({ status: 499, error: "slow_client", attempts: slow }));
  const found = await scrape(metrics);
  expect(found.get("llmnode_client_disconnects_total")?.samples).toEqual([]);
  const labels = { ...CHAT, model: "qwen", code: "slow_client" };
  expect(valueOf(found, "llmnode_request_errors_total", labels)).toBe(1);
});

test("what is not known is absent, and an explicit zero is there", async () => {
  using metrics = metricsOf();
  const usage = { input: 5, output: 0, cachedInput: null, reasoning: null };
  metrics.observe(record({ usage, stream: false }));
  metrics.observe(record({ usage: null, stream: false, firstByteMs: null }));
  const found = await scrape(metrics);
  const types = found.get("llmnode_tokens_total")?.samples.map(({ labels }) => labels["type"]);
  expect(types).toEqual(["input", "output"]);
  expect(valueOf(found, "llmnode_tokens_total", { model: "qwen", type: "output" })).toBe(0);
  for (const name of ["to_first_token", "per_output_token"]) {
    expect(found.get(`gen_ai_server_time_${name}_seconds`)?.samples).toEqual([]);
  }
  expect(valueOf(found, "llmnode_proxy_overhead_seconds_count", CHAT)).toBe(1);
});

test("an overhead that was not measured whole is not guessed", async () => {
  using metrics = metricsOf();
  metrics.observe(record({ attempts: [attempt({ firstByteAt: null })] }));
  const found = await scrape(metrics);
  expect(found.get("llmnode_proxy_overhead_seconds")?.samples).toEqual([]);
});

test("an engine's mad numbers are left out and break nothing", async () => {
  using metrics = metricsOf();
  for (const output of [1e308, -1, 1.5, Number.NaN]) {
    metrics.observe(record({ usage: { input: 1, output, cachedInput: null, reasoning: null } }));
  }
  metrics.observe(record({ durationMs: -5, queueMs: -1 }));
  const found = await scrape(metrics);
  expect(valueOf(found, "llmnode_tokens_total", { model: "qwen", type: "output" })).toBe(41);
  expect(valueOf(found, "llmnode_tokens_total", { model: "qwen", type: "input" })).toBe(304);
});

test("10,000 unknown models leave one series", async () => {
  using metrics = metricsOf();
  for (let i = 0; i < 10_000; i += 1) {
    metrics.observe(
      record({
        model: `made-up-${i}`,
        modelKnown: false,
        status: 404,
        error: "model_not_found",
        attempts: [],
        firstByteMs: null,
        usage: null,
      }),
    );
  }
  const text = await (await metrics.answer()).text();
  expect(text).not.toContain("made-up");
  expect(parseExposition(text).get("llmnode_requests_total")?.samples).toEqual([
    {
      name: "llmnode_requests_total",
      labels: { ...CHAT, model: "unresolved", status: "404" },
      value: 10_000,
    },
  ]);
});

test("known models beyond the limit share a series, the first keep theirs", async () => {
  const state = cluster();
  addWorker(state, "gpu-1", { models: ["m0", "m1", "m2", "m3"] });
  using metrics = metricsOf(state, { maxModels: 2 });
  for (const model of ["m0", "m1", "m2", "m3", "m0"]) {
    metrics.observe(record({ model, attempts: [attempt({ model })] }));
  }
  metrics.observe(record({ model: "x", modelKnown: false, attempts: [] }));
  const found = await scrape(metrics);
  const total = (model: string) =>
    valueOf(found, "llmnode_requests_total", { ...CHAT, model, status: "200" });
  expect([total("m0"), total("m1"), total("other"), total("unresolved")]).toEqual([2, 1, 2, 1]);
  expect(valueOf(found, "llmnode_replica_ready", { worker: "gpu-1", model: "other" })).toBe(2);
});

test("label values are escaped, and what a terminal would obey is gone", async () => {
  using metrics = metricsOf();
  const model = 'a"b\\c\nd\u001b[31me';
  metrics.observe(record({ model, attempts: [attempt({ model })] }));
  const found = await scrape(metrics);
  const [sample] = found.get("llmnode_requests_total")?.samples ?? [];
  expect(sample?.labels["model"]).toBe('a"b\\c de');
});

test("observations and scrapes at the same time lose nothing", async () => {
  using metrics = metricsOf(twoWorkers());
  const texts: Promise<string>[] = [];
  for (let round = 0; round < 20; round += 1) {
    for (let i = 0; i < 50; i += 1) metrics.observe(record());
    texts.push(metrics.answer().then((answer) => answer.text()));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const counts = (await Promise.all(texts)).map((text) =>
    valueOf(parseExposition(text), "gen_ai_server_request_duration_seconds_count", GEN_AI),
  );
  expect(counts).toEqual([...counts].sort((a = 0, b = 0) => a - b));
  const labels = { ...CHAT, model: "qwen", status: "200" };
  expect(valueOf(await scrape(metrics), "llmnode_requests_total", labels)).toBe(1000);
});

test("facts of the cluster are read at the scrape", async () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "gpu-1", { models: ["qwen"] });
  addWorker(state, "gpu-2", { models: ["qwen", "llama"] });
  engine.restartReasons.set("stalled", 3);
  using metrics = metricsOf(state, {}, T0 + 1500);
  const catalog = createCatalogReader(state);
  const wanted = request("qwen", { worker: "gpu-1" });
  const grant = acquire({ state, catalog: catalog(), router }, wanted, {
    now: T0,
    random: () => 0,
  });
  expect(grant.granted).toBe(true);

  const before = await scrape(metrics);
  expect(valueOf(before, "llmnode_worker_up", { worker: "gpu-1" })).toBe(1);
  expect(valueOf(before, "llmnode_worker_heartbeat_age_seconds", { worker: "gpu-1" })).toBe(1.5);
  expect(valueOf(before, "llmnode_replica_ready", { worker: "gpu-2", model: "llama" })).toBe(1);
  expect(valueOf(before, "llmnode_requests_in_flight", { model: "qwen" })).toBe(1);
  expect(valueOf(before, "llmnode_requests_in_flight", { model: "llama" })).toBe(0);
  const restarts = { worker: "gpu-1", reason: "stalled" };
  expect(valueOf(before, "llmnode_engine_restarts_total", restarts)).toBe(3);

  worker.state = "stale";
  state.leases.clear();
  state.revision += 1;
  const after = await scrape(metrics);
  expect(valueOf(after, "llmnode_worker_up", { worker: "gpu-1" })).toBe(0);
  expect(valueOf(after, "llmnode_replica_ready", { worker: "gpu-1", model: "qwen" })).toBe(0);
  expect(valueOf(after, "llmnode_requests_in_flight", { model: "qwen" })).toBe(0);

  state.workers.delete(worker.id);
  state.revision += 1;
  const end = await scrape(metrics);
  expect(valueOf(end, "llmnode_worker_up", { worker: "gpu-1" })).toBeUndefined();
  expect(valueOf(end, "llmnode_worker_up", { worker: "gpu-2" })).toBe(1);
});

test("an engine's load is a fact while it is fresh; what it does not say is absent", async () => {
  const state = cluster();
  const { worker, engine } = addWorker(state, "gpu-1", { models: ["qwen"] });
  engine.report.maxInFlight = 320;
  reportLoads(
    worker,
    [{ engine: "1", running: 3, kvUsage: 0.25, prefixQueryTokens: 9, sampleAgeMs: 0 }],
    T0,
  );
  const at = { worker: "gpu-1", engine: "1" };
  using fresh = metricsOf(state, {}, T0 + 5000);
  const now = await scrape(fresh);
  expect(valueOf(now, "llmnode_engine_running_requests", at)).toBe(3);
  expect(valueOf(now, "llmnode_engine_kv_cache_usage_ratio", at)).toBe(0.25);
  expect(valueOf(now, "llmnode_engine_prefix_query_tokens_total", at)).toBe(9);
  expect(valueOf(now, "llmnode_engine_waiting_requests", at)).toBeUndefined();
  expect(valueOf(now, "llmnode_engine_max_in_flight", at)).toBe(320);
  using old = metricsOf(state, {}, T0 + 5001);
  const later = await scrape(old);
  expect(valueOf(later, "llmnode_engine_running_requests", at)).toBeUndefined();
  expect(valueOf(later, "llmnode_engine_max_in_flight", at)).toBe(320);
});

test("the series of a worker end with it, and its models are bounded", async () => {
  const state = cluster();
  const { worker } = addWorker(state, "gpu-1", { models: ["qwen"] });
  addWorker(state, "gpu-2", { models: ["qwen"] });
  using metrics = metricsOf(state, { maxWorkerSeries: 3 });
  const tried = (name: string, model: string) =>
    metrics.observe(record({ model, attempts: [attempt({ worker: name, model })] }));
  for (const model of ["a", "b", "c"]) tried("gpu-1", model);
  for (const model of ["a", "b"]) tried("gpu-2", model);
  const attempts = async () =>
    (await scrape(metrics))
      .get("llmnode_attempts_total")
      ?.samples.map(({ labels, value }) => [labels["worker"], labels["model"], value]);
  expect(await attempts()).toEqual([
    ["gpu-1", "a", 1],
    ["gpu-1", "b", 1],
    ["gpu-1", "c", 1],
    ["gpu-2", "other", 2],
  ]);
  state.workers.delete(worker.id);
  expect(await attempts()).toEqual([["gpu-2", "other", 2]]);
  tried("gpu-2", "c");
  expect(await attempts()).toEqual([
    ["gpu-2", "other", 2],
    ["gpu-2", "c", 1],
  ]);
});

test("the process says what it is and holds, and a loop that was held up is seen", async () => {
  using metrics = metricsOf(twoWorkers(), { lagIntervalMs: 10, lagWindowMs: 60_000 });
  const first = await scrape(metrics);
  expect(valueOf(first, "llmnode_build_info", { version: "1.2.3", bun: "9.9" })).toBe(1);
  expect(valueOf(first, "process_resident_memory_bytes")).toBeGreaterThan(1_000_000);
  expect(valueOf(first, "process_open_fds")).toBeGreaterThan(3);
  const heldUpUntil = performance.now() + 120;
  while (performance.now() < heldUpUntil);
  await waitFor(
    async () => (valueOf(await scrape(metrics), "llmnode_event_loop_lag_seconds") ?? 0) >= 0.1,
    { what: "a late turn" },
  );
});

test("the time of an attempt that failed before is not the head's overhead", async () => {
  using metrics = metricsOf();
  const failed = attempt({ outcome: "broken", endedAt: AT + 60, firstByteAt: null });
  const second = attempt({ startedAt: AT + 61, firstByteAt: AT + 110 });
  metrics.observe(record({ attempts: [failed, second] }));
  const found = await scrape(metrics);
  expect(valueOf(found, "llmnode_proxy_overhead_seconds_sum", CHAT)).toBeCloseTo(0.002);
});

test("a scrape of many workers takes turns; those who come and go meanwhile are told once", async () => {
  const state = cluster();
  for (let i = 0; i < 1000; i += 1) {
    const { worker } = addWorker(state, `gpu-${i}`, { models: ["qwen", `m${i % 7}`] });
    worker.hardware = withTelemetry(worker.hardware, measured, T0);
  }
  using metrics = metricsOf(state);
  let turns = 0;
  let isOver = false;
  const comeAndGo = () => {
    turns += 1;
    const [first] = state.workers.keys();
    if (first !== undefined) state.workers.delete(first);
    addWorker(state, `late-${turns}`, { models: ["qwen"] });
    if (!isOver) setImmediate(comeAndGo);
  };
  setImmediate(comeAndGo);
  const found = await scrape(metrics);
  isOver = true;
  expect(turns).toBeGreaterThan(3);
  expect(found.get("llmnode_worker_up")?.samples.length).toBe(1000);
  expect(found.get("llmnode_gpu_power_watts")?.samples.length).toBeLessThanOrEqual(1000);
});

test("where prompts went is told by model", async () => {
  using metrics = metricsOf();
  const found = await scrape(metrics);
  const of = (result: string) =>
    valueOf(found, "llmnode_affinity_total", { model: "qwen", result });
  expect(["hit", "miss", "overridden"].map(of)).toEqual([3, 2, 1]);
});
