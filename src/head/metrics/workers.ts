/** The metrics of what workers measure: their machines, GPUs and engines. Old figures are left out. */

import { loadOf } from "../../cluster/state/load.ts";
import type { ClusterState, Engine, LoadFigures, Worker } from "../../cluster/state/state.ts";
import type { GpuReading, HostReading } from "../../cluster/state/telemetry.ts";
import { type ClusterSource, workersOf } from "./cluster.ts";
import type { Registry } from "./prometheus.ts";

type WorkerSource = Pick<ClusterSource, "state" | "now">;

type Figure<T> = [name: string, help: string, read: (reading: T) => number | null];

/** Older figures are not shown as those of now. */
const FRESH_MS = 30_000;

const HOST: Figure<HostReading>[] = [
  ["cpu_utilization_ratio", "Share of the CPUs in use, 0 to 1.", (host) => share(host.cpuPercent)],
  ["memory_used_bytes", "Memory in use.", (host) => host.memoryUsedBytes],
  ["memory_bytes", "Memory.", (host) => host.memoryBytes],
  ["disk_free_bytes", "Free space where models are kept.", (host) => host.diskFreeBytes],
  [
    "network_receive_bytes_per_second",
    "Received over all external network interfaces.",
    (host) => host.netRxBytesPerS,
  ],
  [
    "network_transmit_bytes_per_second",
    "Sent over all external network interfaces.",
    (host) => host.netTxBytesPerS,
  ],
];

const GPU: Figure<GpuReading>[] = [
  ["utilization_ratio", "Share of time in use, 0 to 1.", (gpu) => share(gpu.utilizationPercent)],
  ["memory_used_bytes", "Memory in use.", (gpu) => gpu.memoryUsedBytes],
  ["memory_total_bytes", "Memory.", (gpu) => gpu.memoryTotalBytes],
  ["engine_memory_bytes", "Memory that the worker's engine uses.", (gpu) => gpu.engineMemoryBytes],
  ["power_watts", "Power drawn.", (gpu) => gpu.powerWatts],
  ["power_limit_watts", "Power that may be drawn.", (gpu) => gpu.powerLimitWatts],
  ["temperature_celsius", "Temperature.", (gpu) => gpu.temperatureCelsius],
];

const ENGINE_GAUGES: Figure<LoadFigures>[] = [
  ["running_requests", "Requests that the engine reports as running.", (load) => load.running],
  ["waiting_requests", "Requests that the engine reports as waiting.", (load) => load.waiting],
  [
    "kv_cache_usage_ratio",
    "Share of the engine's KV cache in use, 0 to 1.",
    (load) => load.kvUsage,
  ],
];

const ENGINE_COUNTERS: Figure<LoadFigures>[] = [
  [
    "prefix_hit_tokens_total",
    "Prompt tokens that the engine found in its prefix cache.",
    (load) => load.prefixHitTokens,
  ],
  [
    "prefix_query_tokens_total",
    "Prompt tokens that the engine looked up in its prefix cache.",
    (load) => load.prefixQueryTokens,
  ],
];

/** Series that a figure is not known for are absent. */
export function registerWorkerMetrics(registry: Registry, source: WorkerSource): void {
  registerMachines(registry, source);
  registerEngines(registry, source);
}

function registerMachines(registry: Registry, { state, now }: WorkerSource): void {
  const isFresh = ({ at }: { at: number }) => now() - at <= FRESH_MS;
  for (const [name, help, read] of HOST) {
    registry.collected(
      {
        name: `llmnode_host_${name}`,
        help: `The worker's machine: ${help}`,
        labelNames: ["worker"],
        ownSeries: true,
      },
      function* (gauge) {
        for (const { name: worker, hardware } of present(state)) {
          const { host } = hardware;
          const number = host && isFresh(host) ? read(host) : null;
          if (number !== null) yield gauge.set({ worker }, number);
        }
      },
    );
  }
  const labelNames = ["worker", "gpu", "uuid", "name"] as const;
  for (const [name, help, read] of GPU) {
    registry.collected(
      {
        name: `llmnode_gpu_${name}`,
        help: `The worker's GPU: ${help}`,
        labelNames,
        ownSeries: true,
      },
      function* (gauge) {
        for (const { name: worker, hardware } of present(state)) {
          for (const gpu of hardware.gpus) {
            const number = isFresh(gpu) ? read(gpu) : null;
            if (number === null) continue;
            const { index, uuid, name: gpuName } = gpu;
            gauge.set({ worker, gpu: String(index), uuid, name: gpuName }, number);
          }
          yield;
        }
      },
    );
  }
}

function registerEngines(registry: Registry, { state, now }: WorkerSource): void {
  const labelNames = ["worker", "engine"] as const;
  for (const [figures, type] of [
    [ENGINE_GAUGES, "gauge"],
    [ENGINE_COUNTERS, "counter"],
  ] as const) {
    for (const [name, help, read] of figures) {
      registry.collected(
        { name: `llmnode_engine_${name}`, help, labelNames, type },
        function* (series) {
          for (const { worker, engine } of engines(state)) {
            const load = loadOf(state, engine, now());
            const figure = load && read(load);
            if (figure !== null) yield series.inc({ worker, engine: engine.number }, figure);
          }
        },
      );
    }
  }
  registry.collected(
    {
      name: "llmnode_engine_max_in_flight",
      help: "Requests that the engine should have at once.",
      labelNames,
      ownSeries: true,
    },
    function* (gauge) {
      for (const { worker, engine } of engines(state)) {
        const { maxInFlight } = engine.report;
        if (maxInFlight !== null) yield gauge.inc({ worker, engine: engine.number }, maxInFlight);
      }
    },
  );
}

function present(state: ClusterState): Worker[] {
  return workersOf(state).filter(({ left }) => !left);
}

function* engines(state: ClusterState): Generator<{ worker: string; engine: Engine }> {
  for (const worker of workersOf(state)) {
    if (worker.left || worker.state === "lost") continue;
    for (const engine of worker.engines.values()) yield { worker: worker.name, engine };
  }
}

function share(percent: number | null): number | null {
  return percent === null ? null : percent / 100;
}
