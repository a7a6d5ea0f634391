/** The questions to `nvidia-smi --query-...` and the reading of its CSV, by header and not by place. */

import { cleanLine } from "../util/text.ts";
import { bytesIn, type GpuProcess, type GpuSample, numberIn, percentIn } from "./gpu.ts";

const BASIC_FIELDS = "index uuid memory.total memory.used utilization.gpu temperature.gpu".split(
  " ",
);

/**
 * Sets of fields, the richest first: one field that a driver does not know fails the whole query.
 * `name` comes last, since a name may hold a comma. Source: nvidia-smi --help-query-gpu.
 */
export const GPU_FIELDS: readonly (readonly string[])[] = [
  [...BASIC_FIELDS, "power.draw", "power.limit", "mig.mode.current", "name"],
  [...BASIC_FIELDS, "name"],
];

export const PROCESS_FIELDS = ["gpu_uuid", "pid", "used_gpu_memory"] as const;

/** A column of a CSV header: `memory.total [MiB]` has the name `memory.total`, the unit `MiB`. */
export interface Column {
  name: string;
  unit: string | null;
}

/** Null when a line is not the header of an answer that has these columns. */
export function readHeader(line: string, wanted: readonly string[]): Column[] | null {
  const columns = line.split(",").map((cell): Column => {
    const match = /^(\S+)(?: \[([^\]]+)\])?$/.exec(cell.trim());
    return { name: match?.[1] ?? "", unit: match?.[2] ?? null };
  });
  const names = new Set(columns.map(({ name }) => name));
  return wanted.every((name) => names.has(name)) ? columns : null;
}

/** The cells of a row by column name; the last column takes all that is left. Null for too few. */
export function readRow(line: string, columns: readonly Column[]): Map<string, string> | null {
  const cells = line.split(",");
  if (cells.length < columns.length) return null;
  const last = columns.length - 1;
  return new Map(
    columns.map(({ name }, i) => {
      const cell = i === last ? cells.slice(i).join(",") : (cells[i] ?? "");
      return [name, cell.trim()];
    }),
  );
}

/** A GPU's row, and whether it is cut into MIG instances. */
export interface GpuRow {
  gpu: GpuSample;
  mig: boolean;
}

const UUID = /^(?:GPU|MIG)-[0-9A-Za-z/-]{4,80}$/;

/** Null for a line that is no GPU: an error in words, or a row cut off. */
export function readGpuRow(line: string, columns: readonly Column[]): GpuRow | null {
  const row = readRow(line, columns);
  const index = indexIn(row?.get("index"));
  const uuid = row?.get("uuid") ?? "";
  if (!row || index === null || !UUID.test(uuid)) return null;
  const unitOf = (name: string) => columns.find((column) => column.name === name)?.unit ?? "MiB";
  const memory = row.get("memory.total");
  const gpu: GpuSample = {
    uuid,
    index,
    name: cleanLine(row.get("name") ?? "", 100),
    utilizationPercent: percentIn(row.get("utilization.gpu")),
    memoryUsedBytes: bytesIn(row.get("memory.used"), unitOf("memory.used")),
    memoryTotalBytes: bytesIn(memory, unitOf("memory.total")),
    powerWatts: numberIn(row.get("power.draw")),
    powerLimitWatts: numberIn(row.get("power.limit")),
    temperatureCelsius: numberIn(row.get("temperature.gpu")),
    unified: false,
    migParent: null,
  };
  // A GB10 has no memory of its own and says so; one that fell off or hides has nothing to report at
  // all, or other words.
  const answers = gpu.utilizationPercent ?? gpu.temperatureCelsius ?? gpu.powerWatts;
  gpu.unified = isAbsent(memory) && isAbsent(row.get("memory.used")) && answers !== null;
  return { gpu, mig: row.get("mig.mode.current") === "Enabled" };
}

/** What runs on which GPU; rows that make no sense are left out. Null when there is no header. */
export function readProcesses(lines: readonly string[]): GpuProcess[] | null {
  let columns: Column[] | null = null;
  const found: GpuProcess[] = [];
  for (const line of lines) {
    columns ??= readHeader(line, PROCESS_FIELDS);
    const row = columns ? readRow(line, columns) : null;
    const pid = indexIn(row?.get("pid"));
    const gpu = row?.get("gpu_uuid") ?? "";
    if (!pid || !UUID.test(gpu)) continue;
    found.push({ pid, gpu, memoryBytes: bytesIn(row?.get("used_gpu_memory"), "MiB") });
  }
  return columns ? found : null;
}

function isAbsent(text: string | undefined): boolean {
  return /^\[?(?:N\/A|Not Supported)\]?$/.test(text ?? "");
}

function indexIn(text: string | undefined): number | null {
  return /^\d{1,9}$/.test(text ?? "") ? Number(text) : null;
}
