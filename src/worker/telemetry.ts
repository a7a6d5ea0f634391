/** What heartbeats carry of the hardware: new readings, of the GPUs that this worker's engine may use. */

import { type EngineIdentity, isOfEngine } from "../engine/process/owned-process.ts";
import type { EngineStatus } from "../engine/status.ts";
import type { GpuTelemetry, Heartbeat, HostTelemetry } from "../protocol/messages.ts";
import { containerIds } from "../telemetry/container-ids.ts";
import type { GpuProcess } from "../telemetry/gpu.ts";
import type { AgedGpu } from "../telemetry/gpus.ts";
import type { HostLoad } from "../telemetry/host-load.ts";
import type { Telemetry } from "../telemetry/sampler.ts";

export type Vitals = Pick<Heartbeat, "host" | "gpus" | "gpuProblem">;

export interface HardwareReport {
  /** What changed since it was asked last; empty if nothing did. */
  next(): Vitals;
  /** A new session: all of it is news again. */
  forget(): void;
}

export interface HardwareReportOptions {
  telemetry: Pick<Telemetry, "read">;
  status: () => EngineStatus;
  /** The mark of the engine's processes; null for one that was not started here. */
  engineId: string | null;
  /** Where container tools are looked for. Default: the PATH of this process. */
  path?: string | undefined;
}

/** More GPUs, or more bytes of them, do not go into one message of 16 KiB beside the rest. */
const MAX_GPUS = 64;
const MAX_GPU_BYTES = 14 * 1024;
/** A GPU's numbers and what protobuf puts around them. */
const NUMBERS_BYTES = 100;

export function createHardwareReport(options: HardwareReportOptions): HardwareReport {
  const { telemetry } = options;
  const memory = watchEngineMemory(options);
  let lastHost: HostLoad | null = null;
  let lastGpus = "";

  return {
    next() {
      const { host, gpus, problem, processes } = telemetry.read();
      const now = performance.now();
      const news: Vitals = {};
      if (host !== null && host !== lastHost) {
        lastHost = host;
        news.host = hostTelemetry(host, now);
      }
      const own = ofEngine(gpus, options.status().gpus);
      const used = memory(processes);
      const key = JSON.stringify([own.map(({ gpu, at }) => [gpu.uuid, at]), problem, [...used]]);
      if (key !== lastGpus && (own.length > 0 || problem !== null)) {
        lastGpus = key;
        news.gpus = bounded(own.map((entry) => gpuTelemetry(entry, used, now)));
        news.gpuProblem = problem ?? "";
      }
      return news;
    },
    forget() {
      lastHost = null;
      lastGpus = "";
    },
  };
}

/**
 * The highest utilisation of the GPUs that the engine may use, of readings since then, by
 * `performance.now()`; null where none of them is known.
 */
export function gpuPercentSince(
  { telemetry, status }: Pick<HardwareReportOptions, "telemetry" | "status">,
  since: number,
): number | null {
  const readings = ofEngine(telemetry.read().gpus, status().gpus)
    .filter(({ at }) => at >= since)
    .map(({ gpu }) => gpu.utilizationPercent)
    .filter((percent) => percent !== null);
  return readings.length === 0 ? null : Math.max(...readings);
}

/** Those that the engine may use; of a GPU also its MIG instances. Empty: it may use all. */
function ofEngine(gpus: readonly AgedGpu[], allowed: readonly string[]): readonly AgedGpu[] {
  if (allowed.length === 0) return gpus;
  const isAllowed = (uuid: string | null) => uuid !== null && allowed.includes(uuid);
  return gpus.filter(({ gpu }) => isAllowed(gpu.uuid) || isAllowed(gpu.migParent));
}

/**
 * The memory that the engine has of each GPU that it uses, by the latest list of processes; whose a
 * process is takes some reading, so the answer may be that of the list before.
 */
function watchEngineMemory({ status, engineId, path }: HardwareReportOptions) {
  let seen: readonly GpuProcess[] | null = null;
  let used: ReadonlyMap<string, number | null> = new Map();
  const containersOf = rememberContainers(engineId, path);
  const look = async (processes: readonly GpuProcess[]) => {
    const now = status();
    const containers = processes.length > 0 ? await containersOf(now) : [];
    const engine: EngineIdentity = { engineId, pid: now.pid, containers };
    const found = new Map<string, number | null>();
    for (const { pid: other, gpu, memoryBytes } of processes) {
      if (!(await isOfEngine(other, engine))) continue;
      const sum = found.has(gpu) ? (found.get(gpu) ?? null) : 0;
      found.set(gpu, sum === null || memoryBytes === null ? null : sum + memoryBytes);
    }
    if (seen === processes) used = found;
  };
  return (processes: readonly GpuProcess[] | null) => {
    if (processes !== seen) {
      seen = processes;
      if (processes === null) used = new Map();
      else void look(processes);
    }
    return used;
  };
}

/** The containers of an engine that runs in some, asked for once a run. */
function rememberContainers(engineId: string | null, path: string | undefined) {
  let run: string | null = null;
  let known: readonly string[] = [];
  return async (status: EngineStatus): Promise<readonly string[]> => {
    if (status.container === null) return [];
    if (status.run !== run || known.length === 0) {
      // As the engine's launchers label them: with the engine's mark, or compose with its project.
      const labels = [
        `llmnode.engine=${engineId ?? ""}`,
        `com.docker.compose.project=${status.container}`,
      ];
      run = status.run;
      known = await containerIds(labels, { path });
    }
    return known;
  };
}

function bounded(gpus: GpuTelemetry[]): GpuTelemetry[] {
  let bytes = 0;
  return gpus.slice(0, MAX_GPUS).filter(({ uuid, name, migParent }) => {
    bytes += NUMBERS_BYTES;
    for (const text of [uuid, name, migParent]) bytes += Buffer.byteLength(text);
    return bytes <= MAX_GPU_BYTES;
  });
}

function gpuTelemetry(
  { gpu, at }: AgedGpu,
  used: ReadonlyMap<string, number | null>,
  now: number,
): GpuTelemetry {
  const { uuid, index, name, unified } = gpu;
  return {
    uuid,
    index,
    name,
    unified,
    migParent: gpu.migParent ?? "",
    ageMs: Math.max(0, now - at),
    ...known(gpu, GPU_FIGURES),
    ...known({ engineMemoryBytes: used.get(uuid) ?? null }, ["engineMemoryBytes"]),
  };
}

function hostTelemetry(host: HostLoad, now: number): HostTelemetry {
  return { ageMs: Math.max(0, now - host.at), ...known(host, HOST_FIGURES) };
}

const GPU_FIGURES = [
  ...(["utilizationPercent", "memoryUsedBytes", "memoryTotalBytes"] as const),
  ...(["powerWatts", "powerLimitWatts", "temperatureCelsius"] as const),
] as const;
const HOST_FIGURES = [
  ...(["cpuPercent", "memoryUsedBytes", "memoryBytes", "diskFreeBytes"] as const),
  ...(["netRxBytesPerS", "netTxBytesPerS"] as const),
] as const;

/** Unknown is absent on the wire. */
function known<K extends string>(
  figures: Readonly<Record<K, number | null>>,
  names: readonly K[],
): { [key in K]?: number } {
  const entries = names.map((name) => [name, figures[name]]).filter(([, value]) => value !== null);
  return Object.fromEntries(entries) as { [key in K]?: number };
}
