/** A head's status for the tests of its screen: rows of which a test says what matters. */

import { STATUS_SCHEMA, type StatusJson } from "../../../src/protocol/watch-json.ts";
import type {
  EngineRow,
  GpuDetail,
  ModelRow,
  ReplicaRow,
  WorkerDetail,
} from "../../../src/protocol/watch-rows.ts";
import { showReport, unknownReport } from "../../../src/protocol/engine-report.ts";
import {
  detailOf,
  engine as anyEngine,
  model as anyModel,
  worker as anyWorker,
} from "../../top/sample.ts";

const GIB = 1024 ** 3;

export function gpu(index: number, more: Partial<GpuDetail> = {}): GpuDetail {
  return {
    uuid: `GPU-${index}`,
    index,
    name: "NVIDIA H100 80GB HBM3",
    util_pct: 60,
    mem_used_bytes: 40 * GIB,
    mem_total_bytes: 80 * GIB,
    engine_mem_bytes: null,
    power_w: 433.78,
    power_limit_w: 700,
    temp_c: 53,
    unified: false,
    mig_parent: null,
    age_ms: 900,
    ...more,
  };
}

export function replica(name: string, state = "ready", inFlight = 0): ReplicaRow {
  return { name, state, in_flight: inFlight };
}

export function engine(name: string, more: Partial<EngineRow> = {}): EngineRow {
  return anyEngine(name, {
    ...showReport(unknownReport(0), 0),
    kind: "vllm",
    engine_state: "ready",
    queue: null,
    kv_pct: null,
    replicas: [replica("qwen")],
    ...more,
  });
}

export function worker(name: string, more: Partial<WorkerDetail> = {}): WorkerDetail {
  const row = anyWorker(name, { route: "direct", seen_ms: 400, gpus: [] });
  return detailOf(row, { engines: [engine(`${name}/1`)], ...more });
}

export function model(name: string, more: Partial<ModelRow> = {}): ModelRow {
  return anyModel(name, { alias_of: null, ready: 2, replicas: 2, in_flight: 3, ...more });
}

export function status(
  workers: WorkerDetail[],
  models: ModelRow[],
  services: ModelRow[] = [],
): StatusJson {
  const head = { id: "x", version: "0.1.0", time: "2026-01-01T00:00:00Z", uptime_ms: 1000 };
  return { schema: STATUS_SCHEMA, head, workers, models, services };
}
