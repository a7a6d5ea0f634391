/** A cluster as the head would tell of it: nine workers, one lost, one loading, one draining. */

import { showReport, unknownReport } from "../../src/protocol/engine-report.ts";
import {
  type HistoryPoint,
  WATCH_SCHEMA,
  type WatchFrame,
  type WatchHello,
} from "../../src/protocol/watch-json.ts";
import {
  type EngineRow,
  type EventRow,
  type GpuRow,
  type ModelRow,
  type RequestRow,
  type RowState,
  STATE_MARKS,
  type View,
  type WorkerRow,
  type DrainRow,
  type WorkerDetail,
} from "../../src/protocol/watch-rows.ts";

const GIB = 1024 ** 3;
export const TIME = "2026-02-03T14:02:31.000Z";

export function hello(more: Partial<WatchHello> = {}): WatchHello {
  return {
    schema: WATCH_SCHEMA,
    watch: "w1",
    head: {
      id: "head-a",
      version: "0.1.0",
      time: TIME,
      uptime_ms: 273_600_000,
      api_url: "http://10.0.0.5:8092",
      session_port: 8093,
    },
    role: "operator",
    query: {
      view: "workers",
      sort: "problems",
      filter: "",
      offset: 0,
      limit: 100,
      interval_ms: 1000,
      gone: false,
      models_beside: 0,
      detail: null,
    },
    history: { interval_ms: 2000, points: points(300) },
    ...more,
  };
}

/** A past that is the same each time. */
export function points(count: number): HistoryPoint[] {
  return Array.from({ length: count }, (_, i) => ({
    output_tokens_per_s: 15_000 + 3000 * Math.sin(i / 9) + (i % 7) * 100,
    ttft_p95_ms: i < 3 ? null : 900 + 400 * Math.cos(i / 13),
    in_flight: 180 + Math.round(30 * Math.sin(i / 17)),
    queued: i % 60 > 50 ? 40 : 5,
  }));
}

export function gpus(count: number, more: Partial<GpuRow> = {}): GpuRow[] {
  return Array.from({ length: count }, (_, index) => ({
    index,
    uuid: `GPU-${index}`,
    name: "NVIDIA H200",
    util_pct: 91 - index,
    mem_used_bytes: (80 + index) * GIB,
    mem_total_bytes: 141 * GIB,
    temp_c: 41 + index,
    power_w: 600 + index,
    ...more,
  }));
}

export function worker(name: string, more: Partial<WorkerRow> = {}): WorkerRow {
  return {
    id: `id-${name}`,
    name,
    state: "ready",
    state_detail: null,
    reason: null,
    models: [{ name: "Qwen/Qwen3-235B-A22B", engines: 1 }],
    gpus: gpus(8),
    gpu_problem: null,
    gpu_util_pct: 91,
    gpu_mem_used_bytes: 8 * 132 * GIB,
    gpu_mem_total_bytes: 8 * 141 * GIB,
    temp_c: 71,
    power_w: 5200,
    in_flight: 41,
    queue: 6,
    kv_pct: 97,
    requests_per_s: 3.2,
    output_tokens_per_s: 2300,
    ttft_ms: { p50: 448, p95: 2100 },
    uptime_ms: 273_600_000,
    seen_ms: 200,
    route: "lane",
    address: "10.0.1.18",
    version: "0.1.0",
    labels: {},
    drain: null,
    host: null,
    engines: null,
    sparkline: null,
    ...more,
  };
}

export const DRAIN: DrainRow = {
  id: "d1",
  purpose: "drain",
  stage: "draining",
  who: "ops",
  message: null,
  since: TIME,
  deadline: null,
  engine: null,
  cut_off: 0,
};

/** Everything about a worker. */
export function detailOf(row: WorkerRow, more: Partial<WorkerDetail> = {}): WorkerDetail {
  const gpus = row.gpus.map((gpu) => ({
    ...gpu,
    power_limit_w: 700,
    engine_mem_bytes: null,
    unified: false,
    mig_parent: null,
    age_ms: 500,
  }));
  return { ...row, gpus, engines: [], sparkline: [], ...more };
}

const UNKNOWN = {
  gpu_util_pct: null,
  gpu_mem_used_bytes: null,
  gpu_mem_total_bytes: null,
  temp_c: null,
  power_w: null,
  queue: null,
  kv_pct: null,
  requests_per_s: null,
  output_tokens_per_s: null,
  ttft_ms: null,
};

export function nineWorkers(): WorkerRow[] {
  const llama = [{ name: "meta-llama/Llama-3.3-70B-Instruct", engines: 2 }];
  const mem = (share: number) => ({ gpu_mem_used_bytes: share * 8 * 141 * GIB });
  return [
    worker("gpu-09", {
      ...UNKNOWN,
      state: "lost",
      state_detail: "42s",
      gpus: [],
      in_flight: 0,
      seen_ms: 57_000,
    }),
    worker("gpu-08", {
      ...UNKNOWN,
      state: "starting",
      state_detail: "load 62%",
      models: [{ name: "deepseek-ai/DeepSeek-V3", engines: 1 }],
      gpu_util_pct: 3,
      gpu_mem_total_bytes: 8 * 141 * GIB,
      ...mem(0.57),
      temp_c: 42,
      power_w: 998,
      in_flight: 0,
      uptime_ms: 260_000,
    }),
    worker("gpu-03", {
      state: "draining",
      state_detail: "12 left",
      drain: { ...DRAIN, message: "new driver" },
      gpu_util_pct: 71,
      in_flight: 12,
      queue: 0,
      kv_pct: 31,
      output_tokens_per_s: 900,
      requests_per_s: 0,
      ttft_ms: { p50: 233, p95: 700 },
    }),
    worker("gpu-01"),
    worker("gpu-02", {
      gpu_util_pct: 88,
      in_flight: 38,
      queue: 4,
      kv_pct: 93,
      output_tokens_per_s: 2100,
    }),
    worker("gpu-04", {
      models: llama,
      gpu_util_pct: 64,
      ...mem(0.88),
      in_flight: 22,
      queue: 0,
      kv_pct: 61,
      output_tokens_per_s: 1400,
    }),
    worker("gpu-05", {
      models: llama,
      gpu_util_pct: 59,
      ...mem(0.88),
      in_flight: 19,
      queue: 0,
      kv_pct: 55,
      output_tokens_per_s: 1300,
    }),
    worker("gpu-06", {
      models: [{ name: "Qwen/Qwen3-8B", engines: 8 }],
      gpu_util_pct: 47,
      ...mem(0.81),
      in_flight: 64,
      queue: 0,
      kv_pct: 38,
      output_tokens_per_s: 9800,
      requests_per_s: 9.9,
      ttft_ms: { p50: 88, p95: 200 },
    }),
    worker("gpu-07", {
      models: [{ name: "BAAI/bge-m3", engines: 1 }],
      gpu_util_pct: 12,
      ...mem(0.09),
      in_flight: 5,
      queue: 0,
      kv_pct: null,
      output_tokens_per_s: null,
      requests_per_s: 2.2,
      ttft_ms: { p50: 31, p95: 100 },
    }),
  ];
}

export function model(name: string, more: Partial<ModelRow> = {}): ModelRow {
  return {
    name,
    alias_of: null,
    state: "ready",
    ready: 4,
    starting: 0,
    draining: 0,
    replicas: 4,
    kinds: ["vllm"],
    in_flight: 41,
    queued: 0,
    requests_per_s: 5,
    output_tokens_per_s: 2700,
    ttft_ms: { p50: 231, p95: 600 },
    itl_ms: { p50: 30, p95: 44 },
    context: 32_768,
    error_ratio: 0.004,
    workers: ["gpu-04", "gpu-05"],
    engines: null,
    ...more,
  };
}

export function fiveModels(): ModelRow[] {
  const none = {
    requests_per_s: 0.2,
    output_tokens_per_s: null,
    ttft_ms: null,
    itl_ms: null,
    error_ratio: null,
  };
  return [
    model("Qwen/Qwen3-235B-A22B", {
      ready: 2,
      draining: 1,
      in_flight: 91,
      queued: 10,
      requests_per_s: 6.1,
      output_tokens_per_s: 5300,
      ttft_ms: { p50: 412, p95: 1900 },
      error_ratio: 0,
      context: 131_072,
      workers: ["gpu-01", "gpu-02", "gpu-03"],
    }),
    model("deepseek-ai/DeepSeek-V3", {
      ...none,
      state: "starting",
      ready: 0,
      starting: 1,
      replicas: 1,
      in_flight: 0,
      queued: 3,
      workers: ["gpu-08"],
    }),
    model("meta-llama/Llama-3.3-70B-Instruct"),
    model("Qwen/Qwen3-8B", {
      ready: 8,
      replicas: 8,
      in_flight: 64,
      requests_per_s: 9.9,
      output_tokens_per_s: 9800,
      ttft_ms: { p50: 88, p95: 200 },
      error_ratio: 0.001,
      workers: ["gpu-06"],
    }),
    model("fast", { alias_of: "Qwen/Qwen3-8B", ready: 8, replicas: 8 }),
    model("BAAI/bge-m3", {
      ready: 1,
      replicas: 1,
      kinds: ["tei"],
      in_flight: 5,
      requests_per_s: 2.2,
      output_tokens_per_s: null,
      ttft_ms: { p50: 31, p95: 100 },
      itl_ms: null,
      context: 8192,
      error_ratio: 0,
      workers: ["gpu-07"],
    }),
  ];
}

export function engine(name: string, more: Partial<EngineRow> = {}): EngineRow {
  return {
    ...showReport(unknownReport(0), 260_000),
    name,
    worker: name.replace(/\/.*/, ""),
    kind: "vllm",
    state: "ready",
    engine_state: "ready",
    state_detail: null,
    progress_pct: null,
    gpus: null,
    running: null,
    prefix_hit_tokens: null,
    prefix_query_tokens: null,
    load_age_ms: null,
    replicas: [],
    models: ["Qwen/Qwen3-235B-A22B"],
    in_flight: 41,
    queue: 6,
    kv_pct: 97,
    max_in_flight: 320,
    output_tokens_per_s: 2300,
    ttft_ms: { p50: 448, p95: 2100 },
    pid: 41_822,
    port: 8080,
    route: "lane",
    ...more,
  };
}

export function request(id: string, more: Partial<RequestRow> = {}): RequestRow {
  return {
    id,
    age_ms: 6000,
    phase: "decode",
    path: "/v1/chat/completions",
    model: "Qwen/Qwen3-235B-A22B",
    worker: "gpu-01",
    engine: "gpu-01/1",
    key: null,
    stream: true,
    input_tokens: 18_200,
    output_tokens: 1100,
    output_tokens_per_s: 24.1,
    ttft_ms: 2400,
    queue_ms: 12,
    attempts: 1,
    timeline: [
      { at_ms: 12, text: "gpu-01: sent" },
      { at_ms: 2400, text: "gpu-01: first token" },
    ],
    ...more,
  };
}

export function sevenRequests(): RequestRow[] {
  const none = { output_tokens: 0, output_tokens_per_s: null, ttft_ms: null };
  return [
    request("r7f3a91c", { age_ms: 48_200 }),
    request("r7f3a9f0", {
      ...none,
      age_ms: 12_900,
      phase: "prefill",
      worker: "gpu-02",
      input_tokens: 96_000,
    }),
    request("r7f3aa02", {
      ...none,
      age_ms: 9100,
      phase: "queued",
      model: "deepseek-ai/DeepSeek-V3",
      worker: null,
      engine: null,
      input_tokens: 400,
      attempts: 0,
    }),
    request("r7f3aa11", {
      ...none,
      age_ms: 8800,
      phase: "queued",
      worker: null,
      engine: null,
      input_tokens: 2000,
      attempts: 0,
    }),
    request("r7f3aa1d", {
      model: "meta-llama/Llama-3.3-70B-Instruct",
      worker: "gpu-04",
      input_tokens: 3300,
      output_tokens: 188,
      output_tokens_per_s: 33.5,
      ttft_ms: 300,
      key: "k7d2",
    }),
    request("r7f3aa2b", { ...none, age_ms: 5200, phase: "retry", attempts: 2, input_tokens: 5100 }),
    request("r7f3aa40", {
      age_ms: 2100,
      model: "Qwen/Qwen3-8B",
      worker: "gpu-06",
      input_tokens: 812,
      output_tokens: 201,
      output_tokens_per_s: 104,
      ttft_ms: 81,
    }),
  ];
}

export function events(): EventRow[] {
  const at = (time: string, more: Partial<EventRow>, id: number): EventRow => ({
    id,
    time: `2026-02-03T${time}.000Z`,
    level: "info",
    kind: "joined",
    worker: null,
    model: null,
    text: "",
    ...more,
  });
  return [
    at(
      "13:58:11",
      { worker: "gpu-08", text: "joined: 8x H200, engine vllm, loading DeepSeek-V3" },
      1,
    ),
    at(
      "14:00:02",
      {
        worker: "gpu-03",
        kind: "draining",
        text: "drain started by ops, 31 in flight, deadline 10m",
      },
      2,
    ),
    at(
      "14:01:49",
      {
        worker: "gpu-09",
        level: "warn",
        kind: "lost",
        text: "silent for 15s: lost, 39 requests moved",
      },
      3,
    ),
    at(
      "14:01:50",
      {
        model: "Qwen/Qwen3-235B-A22B",
        kind: "retried",
        text: "39 of 39 requests moved to gpu-01 gpu-02 (0 failed)",
      },
      4,
    ),
  ];
}

/** Of a model: two that serve, one that is drained, one that is lost. */
export function replicas(model: string): EngineRow[] {
  const models = [model];
  return [
    engine("gpu-01/1", { models }),
    engine("gpu-02/1", { models, in_flight: 38, queue: 4, kv_pct: 93 }),
    engine("gpu-03/1", { models, state: "draining", state_detail: "12 left", in_flight: 12 }),
    engine("gpu-09/1", { models, ...UNKNOWN_ENGINE, state: "lost", state_detail: "42s" }),
  ];
}

const UNKNOWN_ENGINE = {
  in_flight: 0,
  queue: null,
  kv_pct: null,
  output_tokens_per_s: null,
  ttft_ms: null,
};

/** An engine that has read a part of its weights. */
export function loading(name: string): EngineRow {
  return engine(name, {
    ...UNKNOWN_ENGINE,
    state: "starting",
    state_detail: "load 62%",
    engine_state: "starting",
    phase: "load 62%",
    phase_ms: 228_000,
    progress_pct: 62,
    models: ["deepseek-ai/DeepSeek-V3"],
    state_ms: 260_000,
  });
}

export interface SampleCluster {
  workers: WorkerRow[];
  models: ModelRow[];
  requests: RequestRow[];
  events: EventRow[];
}

export function cluster(): SampleCluster {
  return {
    workers: nineWorkers(),
    models: fiveModels(),
    requests: sevenRequests(),
    events: events(),
  };
}

/** `count` workers of which a few are in trouble. */
export function manyWorkers(count: number): SampleCluster {
  const troubles = new Map<number, Partial<WorkerRow>>([
    [37, { ...UNKNOWN, state: "lost", state_detail: "3m10s", in_flight: 0 }],
    [121, { ...UNKNOWN, state: "lost", state_detail: "12s", in_flight: 0 }],
    [88, { ...UNKNOWN, state: "failed", state_detail: "exit 1 x5", in_flight: 0 }],
    [5, { state: "starting", state_detail: "load 91%" }],
    [60, { state: "starting", state_detail: "load 12%" }],
    [150, { state: "draining", state_detail: "7 left", in_flight: 7 }],
    [151, { state: "drained", in_flight: 0 }],
  ]);
  const names = Array.from({ length: count }, (_, i) => i);
  const order: RowState[] = ["lost", "failed", "stale", "starting", "draining", "drained", "ready"];
  const workers = names.map((i) =>
    worker(`gpu-${String(i).padStart(3, "0")}`, { in_flight: i % 17, ...troubles.get(i) }),
  );
  workers.sort(
    (a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.name.localeCompare(b.name),
  );
  return { ...cluster(), workers };
}

export function frame(
  sample: SampleCluster,
  more: Partial<WatchFrame> & { view?: View } = {},
): WatchFrame {
  const { workers, models } = sample;
  const view = more.view ?? "workers";
  const all = { workers, models, requests: sample.requests, events: sample.events.toReversed() }[
    view
  ];
  const count = (...states: RowState[]) =>
    workers.filter(({ state }) => states.includes(state)).length;
  const sum = (of: (row: WorkerRow) => number | null) =>
    workers.reduce((total, row) => total + (of(row) ?? 0), 0);
  const byName = [...workers].sort((a, b) => a.name.localeCompare(b.name));
  const limit = 100;
  const offset = more.offset ?? 0;
  const lost = workers.filter(({ state }) => state === "lost");
  return {
    schema: WATCH_SCHEMA,
    frame: 1,
    time: TIME,
    head: { id: "head-a", uptime_ms: 273_600_000, cpu_pct: 4, mem_used_bytes: 182 * 1024 ** 2 },
    totals: {
      workers: {
        total: workers.length,
        ready: count("ready"),
        starting: count("starting"),
        draining: count("draining", "drained"),
        stale: count("stale"),
        lost: count("lost"),
        failed: count("failed"),
      },
      gpus: {
        total: 8 * workers.length,
        ready: 8 * count("ready"),
        name: workers.length > 0 ? "H200" : null,
        util_pct: 54,
        mem_used_bytes: sum((row) => row.gpu_mem_used_bytes),
        mem_total_bytes: sum((row) => row.gpu_mem_total_bytes),
        power_w: sum((row) => row.power_w),
      },
      models: { total: models.length, ready: models.filter(({ ready }) => ready > 0).length },
      replicas: {
        total: models.reduce((total, { replicas }) => total + replicas, 0),
        ready: models.reduce((total, { ready }) => total + ready, 0),
      },
      requests_per_s: workers.length === 0 ? 0 : 23.4,
      input_tokens_per_s: 41_200,
      output_tokens_per_s: workers.length === 0 ? 0 : 17_800,
      ttft_ms: workers.length === 0 ? null : { p50: 182, p95: 1210 },
      itl_ms: { p50: 21, p95: 48 },
      in_flight: sum((row) => row.in_flight),
      queued: workers.length === 0 ? 0 : 13,
      error_ratio: workers.length === 0 ? null : 0.002,
      retries: 39,
      resumed: 2,
      clients: 37,
    },
    strip: byName
      .map(({ state }) => STATE_MARKS[state])
      .join("")
      .slice(0, 1000),
    view,
    total: all.length,
    matching: all.length,
    offset,
    models_beside: models,
    filter_problem: null,
    events: sample.events,
    attention: lost.map(({ name, state_detail }) => ({
      worker: name,
      model: null,
      text: `${name} lost ${state_detail} ago`,
    })),
    point: null,
    detail: null,
    ...more,
    rows: more.rows ?? (all.slice(offset, offset + limit) as WorkerRow[]),
  };
}
