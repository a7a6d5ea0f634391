/** MIG instances and their memory, from `nvidia-smi -q -x`; their UUIDs, from `nvidia-smi -L`. */

import { cleanLine } from "../util/text.ts";
import { bytesIn, type GpuProcess, type GpuSample, type KnownGpu } from "./gpu.ts";

export interface MigReading {
  instances: GpuSample[];
  /** What runs in the instances, by their UUIDs; `--query-compute-apps` does not show them. */
  processes: GpuProcess[];
}

const GPU_LINE = /^GPU (\d+): (.*) \(UUID: (GPU-[^)\s]+)\)$/;
const MIG_LINE = /^MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)\s]+)\)$/;

/** The GPUs of `nvidia-smi -L` and the MIG instances below them. */
export function readGpuList(lines: readonly string[]): (KnownGpu & { device: number | null })[] {
  const found: (KnownGpu & { device: number | null })[] = [];
  let parent: KnownGpu | null = null;
  for (const line of lines) {
    const gpu = GPU_LINE.exec(line.trim());
    const mig = MIG_LINE.exec(line.trim());
    if (gpu) {
      const [, index = "", name = "", uuid = ""] = gpu;
      parent = {
        uuid,
        index: Number(index),
        name: cleanLine(name, 100),
        migParent: null,
        vendor: "nvidia",
      };
      found.push({ ...parent, device: null });
    } else if (mig && parent) {
      const [, profile = "", device = "", uuid = ""] = mig;
      const name = cleanLine(`${parent.name} MIG ${profile}`, 100);
      found.push({ ...parent, uuid, name, migParent: parent.uuid, device: Number(device) });
    }
  }
  return found;
}

/** Joins both answers; an instance without a UUID is left out: it could not be named. */
export function readMig(xml: string, list: ReturnType<typeof readGpuList>): MigReading {
  const reading: MigReading = { instances: [], processes: [] };
  for (const block of blocks(xml, "gpu")) {
    // The instances come before the GPU's own values and have fields of the same names.
    const devices = blocks(block, "mig_device");
    const own = devices.reduce((rest, device) => rest.replace(device, ""), block);
    const parent = value(own, "uuid");
    const ids = new Map<string, string>();
    for (const device of devices) {
      const number = Number(value(device, "index"));
      const known = list.find((gpu) => gpu.migParent === parent && gpu.device === number);
      if (!known) continue;
      ids.set(instanceKey(device), known.uuid);
      const memory = blocks(device, "fb_memory_usage")[0] ?? "";
      reading.instances.push({
        uuid: known.uuid,
        index: known.index,
        name: known.name,
        utilizationPercent: null,
        memoryUsedBytes: bytesIn(value(memory, "used"), "MiB"),
        memoryTotalBytes: bytesIn(value(memory, "total"), "MiB"),
        powerWatts: null,
        powerLimitWatts: null,
        temperatureCelsius: null,
        unified: false,
        migParent: parent,
      });
    }
    for (const info of blocks(own, "process_info")) {
      const gpu = ids.get(instanceKey(info));
      const pid = Number(value(info, "pid"));
      if (gpu === undefined || !Number.isSafeInteger(pid) || pid <= 0) continue;
      reading.processes.push({ pid, gpu, memoryBytes: bytesIn(value(info, "used_memory"), "MiB") });
    }
  }
  return reading;
}

function instanceKey(block: string): string {
  return `${value(block, "gpu_instance_id")}/${value(block, "compute_instance_id")}`;
}

/** The contents of all elements of a name that do not lie in one another; nvidia-smi nests none. */
function blocks(xml: string, name: string): string[] {
  const found: string[] = [];
  const open = new RegExp(`<${name}(?:\\s[^>]*)?>`, "g");
  for (let match = open.exec(xml); match; match = open.exec(xml)) {
    const start = match.index + match[0].length;
    const end = xml.indexOf(`</${name}>`, start);
    if (end < 0) break;
    found.push(xml.slice(start, end));
    open.lastIndex = end;
  }
  return found;
}

function value(xml: string, name: string): string {
  return (blocks(xml, name)[0] ?? "").trim();
}
