/** What each worker's hardware was measured at last, and how old that is. */

import type { GpuTelemetry, Heartbeat, HostTelemetry } from "../../protocol/messages.ts";
import { cleanLine } from "../../util/text.ts";

/** A worker's machine and GPUs; null is unknown. */
export interface Hardware {
  host: HostReading | null;
  /** As the worker orders them. */
  gpus: readonly GpuReading[];
  /** Why there are no figures, or not of all GPUs. */
  gpuProblem: string | null;
}

/** What a message says, checked: null is unknown. */
type Reading<T> = {
  [K in Exclude<keyof T, "ageMs">]-?: undefined extends T[K] ? number | null : T[K];
} & {
  /** When it was measured, by the head's clock. */
  at: number;
};

export type HostReading = Reading<HostTelemetry>;
export type GpuReading = Omit<Reading<GpuTelemetry>, "migParent"> & { migParent: string | null };

/** More are not kept of a worker. */
const MAX_GPUS = 64;

export const NO_HARDWARE: Hardware = { host: null, gpus: [], gpuProblem: null };

/** What is known after a heartbeat; the same object when it says nothing of hardware. */
export function withTelemetry(known: Hardware, beat: Heartbeat, now: number): Hardware {
  const { host, gpus = [], gpuProblem = "" } = beat;
  const speaksOfGpus = gpus.length > 0 || gpuProblem !== "";
  if (!host && !speaksOfGpus) return known;
  return {
    host: host ? hostReading(host, now) : known.host,
    gpus: speaksOfGpus ? gpus.slice(0, MAX_GPUS).map((gpu) => gpuReading(gpu, now)) : known.gpus,
    gpuProblem: speaksOfGpus ? cleanLine(gpuProblem, 200) || null : known.gpuProblem,
  };
}

function hostReading(host: HostTelemetry, now: number): HostReading {
  return {
    cpuPercent: sound(host.cpuPercent),
    memoryUsedBytes: sound(host.memoryUsedBytes),
    memoryBytes: sound(host.memoryBytes),
    diskFreeBytes: sound(host.diskFreeBytes),
    netRxBytesPerS: sound(host.netRxBytesPerS),
    netTxBytesPerS: sound(host.netTxBytesPerS),
    at: now - (sound(host.ageMs) ?? 0),
  };
}

function gpuReading(gpu: GpuTelemetry, now: number): GpuReading {
  return {
    uuid: cleanLine(gpu.uuid, 100),
    index: gpu.index,
    name: cleanLine(gpu.name, 100),
    utilizationPercent: sound(gpu.utilizationPercent),
    memoryUsedBytes: sound(gpu.memoryUsedBytes),
    memoryTotalBytes: sound(gpu.memoryTotalBytes),
    powerWatts: sound(gpu.powerWatts),
    powerLimitWatts: sound(gpu.powerLimitWatts),
    temperatureCelsius: sound(gpu.temperatureCelsius),
    unified: gpu.unified,
    migParent: cleanLine(gpu.migParent, 100) || null,
    engineMemoryBytes: sound(gpu.engineMemoryBytes),
    at: now - (sound(gpu.ageMs) ?? 0),
  };
}

/** What the wire carries may be anything that is a double. */
function sound(value: number | undefined): number | null {
  return value !== undefined && Number.isFinite(value) && value >= 0 ? value : null;
}
