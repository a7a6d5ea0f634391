/** What `llmnode status` shows of machines and GPUs: a column, and tables for those who want more. */

import { cleanLine } from "../../util/text.ts";
import { formatBytes, formatDuration } from "../../util/units.ts";
import type { GpuDetail, HostRow, WorkerDetail } from "../../protocol/watch-rows.ts";

/** Older figures are shown with their age. */
const OLD_MS = 15_000;

/** A worker's GPUs in some words: "8 GPUs 61% 412/640 GiB"; empty where there are none. */
export function gpuText(worker: Hardware): string {
  const { gpus, gpu_problem: problem } = worker;
  if (gpus.length === 0) {
    // A machine without GPUs is no news.
    const hasNone = problem === null || problem.startsWith("there is no ");
    return hasNone ? "" : `? (${cleanLine(problem, 60)})`;
  }
  const own = ownGpus(worker);
  const what = own.length === 1 ? shortName(own[0]?.name ?? "") : `${own.length} GPUs`;
  const busy = average(own.map((gpu) => gpu.util_pct));
  // GPUs that share the machine's memory share the same.
  const counted = own.some((gpu) => gpu.unified) ? own.slice(0, 1) : own;
  const used = sum(counted.map((gpu) => gpu.mem_used_bytes));
  const total = sum(counted.map((gpu) => gpu.mem_total_bytes));
  const ageMs = Math.max(...own.map((gpu) => gpu.age_ms));
  return [
    what,
    busy === null ? "?%" : `${Math.round(busy)}%`,
    memoryText(used, total),
    ...(own.some((gpu) => gpu.unified) ? ["shared"] : []),
    ...(ageMs > OLD_MS ? [`(${formatDuration(ageMs)} old)`] : []),
    ...(problem === null ? [] : ["(not all)"]),
  ].join(" ");
}

type Hardware = Pick<WorkerDetail, "gpus" | "gpu_problem" | "engines">;

export type Table = readonly [header: string[], rows: string[][]];

/** All that is known, one row a machine and one a GPU. */
export function hardwareTables(
  workers: readonly Pick<WorkerDetail, "name" | "host" | "gpus" | "gpu_problem">[],
): Table[] {
  const hosts = workers.flatMap(({ name, host }) =>
    host === null ? [] : [[name, ...hostCells(host)]],
  );
  const gpus = workers.flatMap(({ name, gpus: all, gpu_problem: problem }) => [
    ...all.map((gpu) => [name, ...gpuCells(gpu), ""]),
    ...(problem === null ? [] : [[name, "-", "-", "-", "-", "-", "-", "-", "-", problem]]),
  ]);
  return [
    [["WORKER", "CPU", "MEMORY", "DISK FREE", "NET IN", "NET OUT", "AGE"], hosts],
    [
      ["WORKER", "GPU", "NAME", "UTIL", "MEMORY", "ENGINE", "POWER", "TEMP", "AGE", "PROBLEM"],
      gpus,
    ],
  ];
}

function hostCells(host: HostRow): string[] {
  const rate = (bytes: number | null) => (bytes === null ? "?" : `${formatBytes(bytes)}/s`);
  return [
    percent(host.cpu_pct),
    memoryText(host.mem_used_bytes, host.mem_total_bytes),
    host.disk_free_bytes === null ? "?" : formatBytes(host.disk_free_bytes),
    rate(host.net_rx_bytes_per_s),
    rate(host.net_tx_bytes_per_s),
    formatDuration(host.age_ms),
  ];
}

function gpuCells(gpu: GpuDetail): string[] {
  const { power_w, power_limit_w, temp_c, engine_mem_bytes } = gpu;
  const limit = power_limit_w === null ? "" : `/${Math.round(power_limit_w)}`;
  return [
    gpu.mig_parent === null ? String(gpu.index) : `${gpu.index} MIG`,
    gpu.name,
    percent(gpu.util_pct),
    `${memoryText(gpu.mem_used_bytes, gpu.mem_total_bytes)}${gpu.unified ? " shared" : ""}`,
    engine_mem_bytes === null ? "-" : formatBytes(engine_mem_bytes),
    power_w === null ? "?" : `${Math.round(power_w)}${limit} W`,
    temp_c === null ? "?" : `${Math.round(temp_c)} C`,
    formatDuration(gpu.age_ms),
  ];
}

/**
 * Those that the worker's engine was given, else those that it is on, if that is known; MIG
 * instances instead of their GPU.
 */
function ownGpus({ gpus, engines }: Hardware): readonly GpuDetail[] {
  const parents = new Set(gpus.map((gpu) => gpu.mig_parent));
  const whole = gpus.filter((gpu) => !parents.has(gpu.uuid));
  const used = whole.filter((gpu) => gpu.engine_mem_bytes !== null);
  const isPinned = engines.some(({ gpu_uuids }) => gpu_uuids.length > 0);
  return used.length > 0 && !isPinned ? used : whole;
}

function shortName(name: string): string {
  return cleanLine(name, 40).replace(/^(?:NVIDIA|AMD) (?:GeForce |Instinct )?/, "");
}

/** "32/140 GiB", in the unit of the whole. */
function memoryText(used: number | null, total: number | null): string {
  if (total === null) return used === null ? "?" : formatBytes(used);
  const [amount = "", unit = ""] = formatBytes(total).replace(".0 ", " ").split(" ");
  if (used === null) return `?/${amount} ${unit}`;
  const scaled = (used / total) * Number(amount);
  const shown = total > 0 ? (scaled < 10 ? scaled.toFixed(1) : String(Math.round(scaled))) : "0";
  return `${shown}/${amount} ${unit}`;
}

/** Of figures that are all known. */
function sum(values: readonly (number | null)[]): number | null {
  return values.reduce((total, value) => {
    return total === null || value === null ? null : total + value;
  }, 0);
}

function average(values: readonly (number | null)[]): number | null {
  const total = sum(values);
  return total === null || values.length === 0 ? null : total / values.length;
}

function percent(value: number | null): string {
  return value === null ? "?" : `${Math.round(value)}%`;
}
