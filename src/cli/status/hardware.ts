/** What `llmnode status` shows of machines and GPUs: a column, and tables for those who want more. */

import { cleanLine } from "../../util/text.ts";
import { formatBytes, formatDuration } from "../../util/units.ts";
import { type Fields, fields, list, number, text, texts } from "../base/json-fields.ts";

export interface HardwareView {
  host: HostView | null;
  gpus: GpuView[];
  /** Whether the engine was given these GPUs and no others. */
  isPinned: boolean;
  gpuProblem: string | null;
}

export interface HostView {
  cpuPercent: number | null;
  memoryUsedBytes: number | null;
  memoryBytes: number | null;
  diskFreeBytes: number | null;
  netRxBytesPerS: number | null;
  netTxBytesPerS: number | null;
  ageMs: number | null;
}

export interface GpuView {
  uuid: string;
  index: number | null;
  name: string;
  utilizationPercent: number | null;
  memoryUsedBytes: number | null;
  memoryTotalBytes: number | null;
  engineMemoryBytes: number | null;
  powerWatts: number | null;
  powerLimitWatts: number | null;
  temperatureCelsius: number | null;
  unified: boolean;
  migParent: string | null;
  ageMs: number | null;
}

/** Older figures are shown with their age. */
const OLD_MS = 15_000;

/** From a worker's JSON. */
export function readHardware(worker: Fields): HardwareView {
  const host = fields(worker["host"]);
  return {
    host:
      Object.keys(host).length === 0
        ? null
        : {
            cpuPercent: number(host["cpu_percent"]),
            memoryUsedBytes: number(host["memory_used_bytes"]),
            memoryBytes: number(host["memory_bytes"]),
            diskFreeBytes: number(host["disk_free_bytes"]),
            netRxBytesPerS: number(host["net_rx_bytes_per_s"]),
            netTxBytesPerS: number(host["net_tx_bytes_per_s"]),
            ageMs: number(host["age_ms"]),
          },
    gpus: list(worker["gpus"]).map((gpu) => ({
      uuid: text(gpu["uuid"]) ?? "?",
      index: number(gpu["index"]),
      name: text(gpu["name"]) ?? "?",
      utilizationPercent: number(gpu["utilization_percent"]),
      memoryUsedBytes: number(gpu["memory_used_bytes"]),
      memoryTotalBytes: number(gpu["memory_total_bytes"]),
      engineMemoryBytes: number(gpu["engine_memory_bytes"]),
      powerWatts: number(gpu["power_watts"]),
      powerLimitWatts: number(gpu["power_limit_watts"]),
      temperatureCelsius: number(gpu["temperature_celsius"]),
      unified: gpu["unified"] === true,
      migParent: text(gpu["mig_parent"]),
      ageMs: number(gpu["age_ms"]),
    })),
    isPinned: list(worker["engines"]).some((engine) => texts(engine["gpus"]).length > 0),
    gpuProblem: text(worker["gpu_problem"]),
  };
}

/** A worker's GPUs in some words: "8 GPUs 61% 412/640 GiB"; empty where there are none. */
export function gpuText({ gpus, isPinned, gpuProblem }: HardwareView): string {
  if (gpus.length === 0) {
    // A machine without GPUs is no news.
    const hasNone = gpuProblem === null || gpuProblem.startsWith("there is no ");
    return hasNone ? "" : `? (${cleanLine(gpuProblem, 60)})`;
  }
  const own = ownGpus(gpus, isPinned);
  const what = own.length === 1 ? shortName(own[0]?.name ?? "") : `${own.length} GPUs`;
  const busy = average(own.map((gpu) => gpu.utilizationPercent));
  // GPUs that share the machine's memory share the same.
  const counted = own.some((gpu) => gpu.unified) ? own.slice(0, 1) : own;
  const used = sum(counted.map((gpu) => gpu.memoryUsedBytes));
  const total = sum(counted.map((gpu) => gpu.memoryTotalBytes));
  const ageMs = Math.max(...own.map((gpu) => gpu.ageMs ?? 0));
  return [
    what,
    busy === null ? "?%" : `${Math.round(busy)}%`,
    memoryText(used, total),
    ...(own.some((gpu) => gpu.unified) ? ["shared"] : []),
    ...(ageMs > OLD_MS ? [`(${formatDuration(ageMs)} old)`] : []),
    ...(gpuProblem === null ? [] : ["(not all)"]),
  ].join(" ");
}

export interface NamedHardware {
  name: string;
  hardware: HardwareView;
}

/** A header and its rows. */
export type Table = readonly [header: string[], rows: string[][]];

/** All that is known, one row a machine and one a GPU. */
export function hardwareTables(workers: readonly NamedHardware[]): Table[] {
  const hosts = workers.flatMap(({ name, hardware: { host } }) =>
    host === null ? [] : [[name, ...hostRow(host)]],
  );
  const gpus = workers.flatMap(({ name, hardware }) => [
    ...hardware.gpus.map((gpu) => [name, ...gpuRow(gpu), ""]),
    ...(hardware.gpuProblem === null
      ? []
      : [[name, "-", "-", "-", "-", "-", "-", "-", "-", hardware.gpuProblem]]),
  ]);
  return [
    [["WORKER", "CPU", "MEMORY", "DISK FREE", "NET IN", "NET OUT", "AGE"], hosts],
    [
      ["WORKER", "GPU", "NAME", "UTIL", "MEMORY", "ENGINE", "POWER", "TEMP", "AGE", "PROBLEM"],
      gpus,
    ],
  ];
}

function hostRow(host: HostView): string[] {
  const rate = (bytes: number | null) => (bytes === null ? "?" : `${formatBytes(bytes)}/s`);
  return [
    percent(host.cpuPercent),
    memoryText(host.memoryUsedBytes, host.memoryBytes),
    host.diskFreeBytes === null ? "?" : formatBytes(host.diskFreeBytes),
    rate(host.netRxBytesPerS),
    rate(host.netTxBytesPerS),
    age(host.ageMs),
  ];
}

function gpuRow(gpu: GpuView): string[] {
  const { powerWatts, powerLimitWatts, temperatureCelsius, engineMemoryBytes } = gpu;
  const limit = powerLimitWatts === null ? "" : `/${Math.round(powerLimitWatts)}`;
  return [
    gpu.migParent === null ? String(gpu.index ?? "?") : `${gpu.index ?? "?"} MIG`,
    gpu.name,
    percent(gpu.utilizationPercent),
    `${memoryText(gpu.memoryUsedBytes, gpu.memoryTotalBytes)}${gpu.unified ? " shared" : ""}`,
    engineMemoryBytes === null ? "-" : formatBytes(engineMemoryBytes),
    powerWatts === null ? "?" : `${Math.round(powerWatts)}${limit} W`,
    temperatureCelsius === null ? "?" : `${Math.round(temperatureCelsius)} C`,
    age(gpu.ageMs),
  ];
}

/**
 * Those that the worker's engine was given, else those that it is on, if that is known; MIG
 * instances instead of their GPU.
 */
function ownGpus(gpus: readonly GpuView[], isPinned: boolean): readonly GpuView[] {
  const parents = new Set(gpus.map((gpu) => gpu.migParent));
  const whole = gpus.filter((gpu) => !parents.has(gpu.uuid));
  const used = whole.filter((gpu) => gpu.engineMemoryBytes !== null);
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

function age(ms: number | null): string {
  return ms === null ? "?" : formatDuration(ms);
}
