/** Machines and GPUs as rows. */

import type { GpuDetail, GpuRow, HostRow } from "../../protocol/watch-rows.ts";
import type { GpuReading, HostReading } from "../state/telemetry.ts";
import { ageOf } from "./context.ts";

export function gpuRow(gpu: GpuReading): GpuRow {
  return {
    index: gpu.index,
    uuid: gpu.uuid,
    name: gpu.name,
    util_pct: gpu.utilizationPercent,
    mem_used_bytes: gpu.memoryUsedBytes,
    mem_total_bytes: gpu.memoryTotalBytes,
    temp_c: gpu.temperatureCelsius,
    power_w: gpu.powerWatts,
  };
}

export function gpuDetail(gpu: GpuReading, now: number): GpuDetail {
  return {
    ...gpuRow(gpu),
    power_limit_w: gpu.powerLimitWatts,
    engine_mem_bytes: gpu.engineMemoryBytes,
    unified: gpu.unified,
    mig_parent: gpu.migParent,
    age_ms: ageOf(gpu.at, now),
  };
}

export function hostRow(host: HostReading, now: number): HostRow {
  return {
    cpu_pct: host.cpuPercent,
    mem_used_bytes: host.memoryUsedBytes,
    mem_total_bytes: host.memoryBytes,
    disk_free_bytes: host.diskFreeBytes,
    net_rx_bytes_per_s: host.netRxBytesPerS,
    net_tx_bytes_per_s: host.netTxBytesPerS,
    age_ms: ageOf(host.at, now),
  };
}
