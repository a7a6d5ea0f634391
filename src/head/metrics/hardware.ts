/** The metrics of the workers' machines and GPUs: those that are known and not old. */

import type { ClusterState, Worker } from "../../cluster/state/state.ts";
import type { GpuReading, HostReading } from "../../cluster/state/telemetry.ts";
import type { Registry } from "./prometheus.ts";

/** Older figures are not said to be of now. */
const FRESH_MS = 30_000;

type HostValue = (host: HostReading) => number | null;
type GpuValue = (gpu: GpuReading) => number | null;

const HOST: [name: string, help: string, value: HostValue][] = [
  ["cpu_utilization_ratio", "Share of the CPUs in use, 0 to 1.", (host) => share(host.cpuPercent)],
  ["memory_used_bytes", "Memory in use.", (host) => host.memoryUsedBytes],
  ["memory_bytes", "Memory.", (host) => host.memoryBytes],
  ["disk_free_bytes", "Room where models are kept.", (host) => host.diskFreeBytes],
  [
    "network_receive_bytes_per_second",
    "What comes in over all outer links.",
    (host) => host.netRxBytesPerS,
  ],
  [
    "network_transmit_bytes_per_second",
    "What goes out over all outer links.",
    (host) => host.netTxBytesPerS,
  ],
];

const GPU: [name: string, help: string, value: GpuValue][] = [
  ["utilization_ratio", "Share of time in use, 0 to 1.", (gpu) => share(gpu.utilizationPercent)],
  ["memory_used_bytes", "Memory in use.", (gpu) => gpu.memoryUsedBytes],
  ["memory_total_bytes", "Memory.", (gpu) => gpu.memoryTotalBytes],
  ["engine_memory_bytes", "Memory that the worker's engine has.", (gpu) => gpu.engineMemoryBytes],
  ["power_watts", "Power drawn.", (gpu) => gpu.powerWatts],
  ["power_limit_watts", "Power that may be drawn.", (gpu) => gpu.powerLimitWatts],
  ["temperature_celsius", "Temperature.", (gpu) => gpu.temperatureCelsius],
];

/** Series that a figure is not known for are absent. */
export function registerHardwareMetrics(
  registry: Registry,
  source: { state: ClusterState; now: () => number },
): void {
  const { state, now } = source;
  const isFresh = ({ at }: { at: number }) => now() - at <= FRESH_MS;
  for (const [name, help, value] of HOST) {
    registry.collected(
      {
        name: `llmnode_host_${name}`,
        help: `The worker's machine: ${help}`,
        labelNames: ["worker"],
      },
      (gauge) => {
        for (const { name: worker, hardware } of present(state)) {
          const { host } = hardware;
          const number = host && isFresh(host) ? value(host) : null;
          if (number !== null) gauge.set({ worker }, number);
        }
      },
    );
  }
  const labelNames = ["worker", "gpu", "uuid", "name"] as const;
  for (const [name, help, value] of GPU) {
    registry.collected(
      { name: `llmnode_gpu_${name}`, help: `The worker's GPU: ${help}`, labelNames },
      (gauge) => {
        for (const { name: worker, hardware } of present(state)) {
          for (const gpu of hardware.gpus) {
            const number = isFresh(gpu) ? value(gpu) : null;
            if (number === null) continue;
            gauge.set({ worker, gpu: String(gpu.index), uuid: gpu.uuid, name: gpu.name }, number);
          }
        }
      },
    );
  }
}

function present(state: ClusterState): Worker[] {
  return [...state.workers.values()].filter(({ left }) => !left);
}

function share(percent: number | null): number | null {
  return percent === null ? null : percent / 100;
}
