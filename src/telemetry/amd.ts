/** AMD GPUs as `amd-smi` and `rocm-smi` report them in JSON; both change their shapes by release. */

import { cleanLine } from "../util/text.ts";
import { bytesIn, type GpuProcess, type GpuSample, numberIn, percentIn } from "./gpu.ts";
import { fieldsIn, parseJson } from "../util/json.ts";

// Sources: outputs of amd-smi 24 to 26 (ROCm 6 and 7) and rocm-smi 5.7 to 7.

/** From `amd-smi metric`, `list`, `static --asic --limit`; null: the first is no such answer. */
export function readAmdSmi(
  metric: string,
  more: { list: string; static: string },
): GpuSample[] | null {
  const rows = gpuRows(metric);
  if (rows === null) return null;
  const uuids = uuidsOf(more.list);
  const named = new Map((gpuRows(more.static) ?? []).map((row) => [rowIndex(row), row]));
  return rows.flatMap((row): GpuSample[] => {
    const index = rowIndex(row);
    if (index === null) return [];
    const power = fieldsIn(row["power"]);
    const memory = fieldsIn(row["mem_usage"]);
    const heat = fieldsIn(row["temperature"]);
    const limit = fieldsIn(fieldsIn(named.get(index))["limit"]);
    const asic = fieldsIn(fieldsIn(named.get(index))["asic"]);
    return [
      {
        uuid: uuids.get(index) ?? `amd-${index}`,
        index,
        name: cleanLine(String(asic["market_name"] ?? "AMD GPU"), 100),
        utilizationPercent: percentIn(measured(fieldsIn(row["usage"])["gfx_activity"])),
        memoryUsedBytes: bytesIn(measured(memory["used_vram"]), "MB"),
        memoryTotalBytes: bytesIn(measured(memory["total_vram"]), "MB"),
        powerWatts: numberIn(measured(power["socket_power"] ?? power["average_socket_power"])),
        powerLimitWatts: numberIn(
          measured(limit["socket_power"] ?? fieldsIn(limit["ppt0"])["socket_power_limit"]),
        ),
        temperatureCelsius: numberIn(measured(heat["edge"])) ?? numberIn(measured(heat["hotspot"])),
        unified: false,
        migParent: null,
      },
    ];
  });
}

/** From `rocm-smi --json` with what `ROCM_SMI_ARGS` asks; null when it is not such an answer. */
export function readRocmSmi(text: string): GpuSample[] | null {
  const root = parse(text);
  if (root === undefined || root === null || Array.isArray(root)) return null;
  return Object.entries(fieldsIn(root)).flatMap(([key, value]): GpuSample[] => {
    const index = /^card(\d{1,4})$/.exec(key)?.[1];
    if (index === undefined) return [];
    const card = fieldsIn(value);
    const first = (...names: string[]) =>
      names.map((name) => card[name]).find((found) => typeof found === "string") as
        string | undefined;
    const id = /^0x([0-9a-f]{1,32})$/i.exec(first("Unique ID") ?? "")?.[1];
    return [
      {
        // ROCr's own name of the GPU; integrated ones have no unique id.
        uuid: id === undefined ? `amd-${index}` : `GPU-${id.toLowerCase()}`,
        index: Number(index),
        name: cleanLine(first("Card Series", "Card series", "Device Name") ?? "AMD GPU", 100),
        utilizationPercent: percentIn(first("GPU use (%)")),
        memoryUsedBytes: bytesIn(first("VRAM Total Used Memory (B)"), "B"),
        memoryTotalBytes: bytesIn(first("VRAM Total Memory (B)"), "B"),
        powerWatts: numberIn(
          first(
            "Average Graphics Package Power (W)",
            "Current Socket Graphics Package Power (W)",
            "Average Package Power (W)",
          ),
        ),
        powerLimitWatts: numberIn(first("Max Graphics Package Power (W)")),
        temperatureCelsius:
          numberIn(first("Temperature (Sensor edge) (C)")) ??
          numberIn(first("Temperature (Sensor junction) (C)")),
        unified: false,
        migParent: null,
      },
    ];
  });
}

export const ROCM_SMI_ARGS = [
  ...["--showuniqueid", "--showproductname", "--showuse", "--showmeminfo", "vram"],
  ...["--showpower", "--showmaxpower", "--showtemp", "--json"],
];

/** From `amd-smi process --json`; null when it is not such an answer. */
export function readAmdProcesses(text: string, list: string): GpuProcess[] | null {
  const rows = gpuRows(text);
  if (rows === null) return null;
  const uuids = uuidsOf(list);
  return rows.flatMap((row) => {
    const index = rowIndex(row);
    const entries = Array.isArray(row["process_list"]) ? row["process_list"] : [];
    return entries.flatMap((entry): GpuProcess[] => {
      // In words where there are none: "No running processes detected".
      const info = fieldsIn(fieldsIn(entry)["process_info"]);
      const pid = info["pid"];
      if (index === null || typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0) {
        return [];
      }
      const memory = fieldsIn(info["memory_usage"])["vram_mem"] ?? info["mem_usage"];
      const gpu = uuids.get(index) ?? `amd-${index}`;
      return [{ pid, gpu, memoryBytes: bytesIn(measured(memory), "B") }];
    });
  });
}

function uuidsOf(list: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const row of gpuRows(list) ?? []) {
    const index = rowIndex(row);
    const uuid = row["uuid"];
    if (index === null || typeof uuid !== "string" || !/^[0-9A-Za-z-]{4,80}$/.test(uuid)) continue;
    found.set(index, uuid);
  }
  return found;
}

/** A list of GPUs, bare (to ROCm 6) or as `gpu_data` (from ROCm 7 on). */
function gpuRows(text: string): Record<string, unknown>[] | null {
  const root = parse(text);
  const rows = Array.isArray(root) ? root : fieldsIn(root)["gpu_data"];
  return Array.isArray(rows) ? rows.map(fieldsIn) : null;
}

function rowIndex(row: Record<string, unknown>): number | null {
  const index = row["gpu"];
  return typeof index === "number" && Number.isSafeInteger(index) && index >= 0 ? index : null;
}

/** `{"value": 72, "unit": "%"}`, `72` and `"72"` as one text; the unit is a part of it. */
function measured(value: unknown): string | undefined {
  if (typeof value === "number" || typeof value === "string") return String(value);
  const { value: amount, unit } = fieldsIn(value);
  if (typeof amount !== "number" && typeof amount !== "string") return undefined;
  return typeof unit === "string" ? `${amount} ${unit}` : String(amount);
}

function parse(text: string): unknown {
  // Warnings may stand before the JSON.
  const start = text.search(/^[ \t]*[[{]/m);
  return start < 0 ? undefined : parseJson(text.slice(start));
}
