/** What is known of one GPU at one instant, as data. */

export interface GpuSample {
  /** As its own tool names it: `GPU-...`, `MIG-...`; an AMD GPU's unique id. The key. */
  uuid: string;
  /** Among the GPUs of this machine in the order of the PCI bus; a MIG instance has its GPU's. */
  index: number;
  name: string;
  /** Null is unknown, never none. */
  utilizationPercent: number | null;
  memoryUsedBytes: number | null;
  memoryTotalBytes: number | null;
  powerWatts: number | null;
  powerLimitWatts: number | null;
  temperatureCelsius: number | null;
  /** Shares the machine's memory: then the memory figures are the machine's. */
  unified: boolean;
  /** Of a MIG instance: the UUID of the GPU that it is a part of. */
  migParent: string | null;
}

/** A process on a GPU. Its pid is of the machine's own PID namespace. */
export interface GpuProcess {
  pid: number;
  /** The UUID of its GPU. */
  gpu: string;
  memoryBytes: number | null;
}

/** A GPU as a person may name it. */
export interface KnownGpu {
  uuid: string;
  index: number;
  name: string;
  /** MIG instances have the UUID of their GPU here; they cannot be named by an index. */
  migParent: string | null;
  vendor: "nvidia" | "amd";
}

const SIZES: Record<string, number> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  // amd-smi writes MB and means MiB: its totals are powers of two in these.
  KB: 1024,
  MB: 1024 ** 2,
  GB: 1024 ** 3,
};

/**
 * The number in a text such as `81559 MiB`, `71.15 W`, `0 %`, `42`; null for all that is no finite
 * number of 0 or more: `[N/A]`, `N/A`, `[Not Supported]`, `[Unknown Error]`, `Infinity`, `-1`, ``.
 */
export function numberIn(text: string | undefined): number | null {
  const match = /^(\d+(?:\.\d+)?)(?:\s*(?:%|W|C|MHz|[KMG]?i?B))?$/.exec(text?.trim() ?? "");
  const value = match ? Number(match[1]) : Number.NaN;
  return Number.isFinite(value) ? value : null;
}

/** A size with its unit, in bytes; `unit` is for a text that has none. */
export function bytesIn(text: string | undefined, unit: string): number | null {
  const value = numberIn(text);
  if (value === null) return null;
  const own = /[KMG]?i?B$/.exec(text?.trim() ?? "")?.[0];
  const bytes = value * (SIZES[own ?? unit] ?? Number.NaN);
  return Number.isFinite(bytes) ? bytes : null;
}

/** A share of a whole in percent; what lies outside 0 to 100 is no share. */
export function percentIn(text: string | undefined): number | null {
  const value = numberIn(text);
  return value !== null && value <= 100 ? value : null;
}
