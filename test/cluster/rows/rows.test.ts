import { expect, test } from "bun:test";
import { reportLoads } from "../../../src/cluster/state/load.ts";
import { updateLiveness } from "../../../src/cluster/liveness/liveness.ts";
import { disconnect, reportEngine } from "../../../src/cluster/state/registry.ts";
import { chooseRows, orderRows } from "../../../src/cluster/rows/order.ts";
import { modelDetail, modelRows } from "../../../src/cluster/rows/models.ts";
import { workerDetail, workerDetails, workerRow } from "../../../src/cluster/rows/workers.ts";
import { withTelemetry } from "../../../src/cluster/state/telemetry.ts";
import { attentionOf, stripOf, totalsOf } from "../../../src/cluster/rows/totals.ts";
import { ENGINE_ROW_FIELDS } from "../../../src/protocol/row-fields.ts";
import { addWorker, cluster, NOTHING, report, rowContext, T0 } from "../fixtures.ts";

function gpu(uuid: string, more: object = {}) {
  return { uuid, index: 0, name: "NVIDIA H200", unified: false, migParent: "", ageMs: 0, ...more };
}

test("what is unknown stays unknown, and what is known is added up", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m", "n"] });
  const before = workerRow(rowContext(state), worker);
  expect(before).toMatchObject({
    name: "a",
    state: "ready",
    state_detail: null,
    models: [
      { name: "m", engines: 1 },
      { name: "n", engines: 1 },
    ],
    gpu_util_pct: null,
    gpu_mem_used_bytes: null,
    power_w: null,
    queue: null,
    kv_pct: null,
    requests_per_s: null,
    route: "direct",
    engines: null,
  });
  const gpus = [
    gpu("A", {
      utilizationPercent: 80,
      memoryUsedBytes: 10,
      memoryTotalBytes: 20,
      temperatureCelsius: 60,
    }),
    gpu("B", { utilizationPercent: 40, temperatureCelsius: 70, powerWatts: 300 }),
  ];
  worker.hardware = withTelemetry(worker.hardware, { sequence: 1, gpus }, T0);
  reportLoads(worker, [{ engine: "1", waiting: 3, kvUsage: 0.5, sampleAgeMs: 0 }], T0);
  expect(workerRow(rowContext(state), worker)).toMatchObject({
    gpu_util_pct: 60,
    gpu_mem_used_bytes: 10,
    gpu_mem_total_bytes: 20,
    temp_c: 70,
    power_w: 300,
    queue: 3,
    kv_pct: 50,
  });
});

test("the state of a worker is that of its worst engine, in the words of its log", () => {
  const state = cluster();
  const { worker } = addWorker(state, "a", { models: ["m"] });
  const words = (more: object) => {
    reportEngine(state, { worker, report: report({ run: "r2", ...more }) }, T0);
    const { state: word, state_detail } = workerRow(rowContext(state), worker);
    return [word, state_detail];
  };
  expect(words({ state: "STARTING", phase: "load 62%" })).toEqual(["starting", "load 62%"]);
  expect(words({ state: "STARTING", phase: "compile", phaseMs: 65_000 })).toEqual([
    "starting",
    "compile 1m05s",
  ]);
  expect(words({ state: "BACKOFF", failure: "gpu_oom", restarts: 5 })).toEqual([
    "failed",
    "gpu oom x5",
  ]);
  expect(words({ state: "FAILED" })).toEqual(["failed", "exit"]);
  const detail = workerDetail(rowContext(state), worker);
  expect(detail.engines.map(({ name, state: word }) => [name, word])).toEqual([["a/1", "failed"]]);
  expect(detail.sparkline).toEqual([null, 5]);
  disconnect(state, worker);
  updateLiveness(state, worker, T0 + 20_000);
  const lost = workerRow(rowContext(state, { now: T0 + 20_000 }), worker);
  expect([lost.state, lost.state_detail, lost.uptime_ms]).toEqual(["lost", "20s", null]);
});

test("models count their replicas, and aliases stand for them", () => {
  const state = cluster();
  addWorker(state, "a", { models: ["m"] });
  const b = addWorker(state, "b", { models: ["m"] });
  reportEngine(
    state,
    { worker: b.worker, report: report({ run: "b2", state: "STARTING", expectedModels: ["m"] }) },
    T0,
  );
  const aliases = [
    { name: "fast", models: ["gone", "m"] },
    { name: "never", models: ["gone"] },
  ];
  const context = rowContext(state, { aliases });
  const rows = [...modelRows(context)];
  expect(
    rows.map(({ name, alias_of, state: word, ready, replicas }) => [
      name,
      alias_of,
      word,
      ready,
      replicas,
    ]),
  ).toEqual([
    ["fast", "gone, m", "ready", 1, 2],
    ["m", null, "ready", 1, 2],
    ["never", "gone", "failed", 0, 0],
  ]);
  const [, m] = rows;
  if (!m) throw new Error("no model");
  expect(modelDetail(context, m).engines?.map(({ name }) => name)).toEqual(["a/1", "b/1"]);
});

test("rows are chosen and ordered by what people type", () => {
  const state = cluster();
  const a = addWorker(state, "a", { models: ["qwen"] });
  const b = addWorker(state, "b", { models: ["llama"] });
  const c = addWorker(state, "c", { models: ["qwen"] });
  a.worker.inFlight = 5;
  b.worker.inFlight = 9;
  b.worker.labels = { zone: "b7" };
  const lost = { ...workerRow(rowContext(state), c.worker), state: "lost" as const };
  const context = rowContext(state);
  const rows = [workerRow(context, a.worker), workerRow(context, b.worker), lost];
  const names = (list: readonly { name: string }[]) => list.map(({ name }) => name).join("");
  expect(names(chooseRows("workers", rows, "model:qwen"))).toBe("ac");
  expect(names(chooseRows("workers", rows, "infl>4 !lost"))).toBe("ab");
  expect(names(chooseRows("workers", rows, "label:zone=b7"))).toBe("b");
  expect(names(chooseRows("workers", rows, ""))).toBe("abc");
  expect(() => chooseRows("workers", rows, "speed>1")).toThrow("no field speed");
  expect(names(orderRows("workers", rows, "problems"))).toBe("cab");
  expect(names(orderRows("workers", rows, "-in_flight"))).toBe("bac");
  expect(names(orderRows("workers", rows, "infl"))).toBe("cab");
  // What is not known comes last, whichever way round.
  const [first] = rows;
  if (first) first.power_w = 100;
  expect([
    names(orderRows("workers", rows, "power_w")),
    names(orderRows("workers", rows, "-power_w")),
  ]).toEqual(["abc", "abc"]);
});

test("the totals count each worker once, and what needs a person is named", () => {
  const state = cluster();
  for (const id of ["a", "b", "c", "d"]) addWorker(state, id, { models: [`m-${id}`] });
  const context = rowContext(state);
  const rows = [...state.workers.values()].map((worker) => workerRow(context, worker));
  const as = (i: number, change: object) => Object.assign(rows[i] ?? {}, change);
  as(1, { state: "lost", state_detail: "42s" });
  as(2, { state: "failed", state_detail: "gpu oom x5", reason: "CUDA out of memory" });
  as(3, { state: "left" });
  const throughput = {
    ...NOTHING,
    inputTokensPerS: null,
    retries: 1,
    resumed: 2,
    clients: 3,
    inFlight: 4,
    queued: 5,
  };
  const models = [...modelRows(context)].map((row) =>
    row.name === "m-b" ? { ...row, ready: 0 } : row,
  );
  const totals = totalsOf(rows, models, throughput);
  expect(totals.workers).toEqual({
    total: 3,
    ready: 1,
    starting: 0,
    draining: 0,
    stale: 0,
    lost: 1,
    failed: 1,
  });
  expect(totals).toMatchObject({
    models: { total: 4, ready: 3 },
    in_flight: 4,
    queued: 5,
    retries: 1,
    clients: 3,
  });
  expect(stripOf(rows)).toBe("*x!");
  expect(attentionOf(rows, models).map(({ text }) => text)).toEqual([
    "b lost for 42s",
    "c failed (gpu oom x5): CUDA out of memory",
    "m-b has no ready replica",
  ]);
});

test("details are every field of an engine, its machine and its GPUs", () => {
  const state = cluster();
  const { worker, engine: before } = addWorker(state, "a", { models: ["m"] });
  const { run } = before.report;
  reportEngine(state, { worker, report: report({ run, gpus: ["B"], sinceMs: 500 }) }, T0);
  const beat = {
    sequence: 1,
    host: { cpuPercent: 0, ageMs: 200 },
    gpus: [gpu("A"), gpu("B", { index: 1, utilizationPercent: 0, ageMs: 100 })],
  };
  worker.hardware = withTelemetry(worker.hardware, beat, T0);
  reportLoads(worker, [{ engine: "1", running: 2, kvUsage: 0.25, sampleAgeMs: 10 }], T0);
  const [row] = workerDetails(rowContext(state, { now: T0 + 2000 }));
  expect(row?.host).toEqual({
    cpu_pct: 0,
    mem_used_bytes: null,
    mem_total_bytes: null,
    disk_free_bytes: null,
    net_rx_bytes_per_s: null,
    net_tx_bytes_per_s: null,
    age_ms: 2200,
  });
  expect(row?.gpus[1]).toEqual({
    uuid: "B",
    index: 1,
    name: "NVIDIA H200",
    util_pct: 0,
    mem_used_bytes: null,
    mem_total_bytes: null,
    temp_c: null,
    power_w: null,
    power_limit_w: null,
    engine_mem_bytes: null,
    unified: false,
    mig_parent: null,
    age_ms: 2100,
  });
  const [engine] = row?.engines ?? [];
  expect(Object.keys(engine ?? {}).sort()).toEqual([...ENGINE_ROW_FIELDS].sort());
  expect(engine).toMatchObject({
    name: "a/1",
    worker: "a",
    engine_state: "ready",
    state_ms: 2500,
    gpu_uuids: ["B"],
    gpus: [1],
    running: 2,
    queue: null,
    kv_pct: 25,
    load_age_ms: 2010,
    replicas: [{ name: "m", state: "ready", in_flight: 0 }],
  });
});
