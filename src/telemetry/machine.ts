/** How busy this machine and its links are: from /proc where there is one, else by a library. */

import { readFile } from "node:fs/promises";
import path from "node:path";

/** Null is unknown. */
export interface MachineLoad {
  /** Since the reading before; null at the first. */
  cpuPercent: number | null;
  memoryBytes: number | null;
  memoryUsedBytes: number | null;
}

/** Null until a link has been read twice. */
export interface LinkRates {
  iface: string;
  rx_sec: number | null;
  tx_sec: number | null;
}

export interface MachineReader {
  load(): Promise<MachineLoad>;
  links(): Promise<readonly LinkRates[]>;
}

export async function machineReader(): Promise<MachineReader> {
  return process.platform === "linux" ? readProc() : await readSystem();
}

/**
 * Linux: three files, read as they are. The library starts three programs for each reading of the
 * CPUs, and reads the memory three times.
 */
export function readProc(folder = "/proc"): MachineReader {
  const text = (name: string) => readFile(path.join(folder, name), "utf8");
  let lastCpu: CpuTimes | null = null;
  let lastLinks: { at: number; bytes: ReadonlyMap<string, LinkBytes> } | null = null;
  return {
    async load() {
      const [stat, meminfo] = await Promise.all([text("stat"), text("meminfo")]);
      const cpu = cpuTimes(stat);
      const cpuPercent = lastCpu && busyPercent(lastCpu, cpu);
      lastCpu = cpu;
      return { cpuPercent, ...machineMemory(meminfo) };
    },
    async links() {
      const bytes = linkBytes(await text("net/dev"));
      const before = lastLinks;
      lastLinks = { at: performance.now(), bytes };
      const seconds = (lastLinks.at - (before?.at ?? lastLinks.at)) / 1000;
      return [...bytes].map(([iface, { rx, tx }]) => {
        const was = before?.bytes.get(iface);
        // A link that was set up anew counts from zero again: less than nothing is not known.
        const rate = (now: number, then: number | undefined) =>
          then === undefined || seconds <= 0 || now < then ? null : (now - then) / seconds;
        return { iface, rx_sec: rate(rx, was?.rx), tx_sec: rate(tx, was?.tx) };
      });
    },
  };
}

/** Loaded here: no other system, and no other command, needs it. */
async function readSystem(): Promise<MachineReader> {
  const system = await import("systeminformation");
  let isFirst = true;
  return {
    async load() {
      const [memory, cpu] = await Promise.all([system.mem(), system.currentLoad()]);
      // The first is an average since the machine was started.
      const cpuPercent = isFirst ? null : cpu.currentLoad;
      isFirst = false;
      const known = memory.total > 0;
      return {
        cpuPercent,
        memoryBytes: known ? memory.total : null,
        memoryUsedBytes: known ? memory.total - memory.available : null,
      };
    },
    links: () => system.networkStats("*"),
  };
}

/** Of /proc/meminfo. */
export function machineMemory(
  meminfo: string,
): Pick<MachineLoad, "memoryBytes" | "memoryUsedBytes"> {
  const bytes = (name: string) => {
    const kib = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(meminfo)?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  };
  const [total, available] = [bytes("MemTotal"), bytes("MemAvailable")];
  const used = total !== null && available !== null ? total - available : null;
  return { memoryBytes: total, memoryUsedBytes: used };
}

interface CpuTimes {
  busy: number;
  idle: number;
}

/** Source: proc_stat(5). Time of guests is part of the user's; waiting for a disk is idle. */
function cpuTimes(stat: string): CpuTimes {
  const fields = /^cpu +(.+)$/m.exec(stat)?.[1]?.split(" ").map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, idle = 0, wait = 0, irq = 0, softIrq = 0, steal = 0] =
    fields;
  return { busy: user + nice + system + irq + softIrq + steal, idle: idle + wait };
}

/** Null for two readings within one tick of the kernel's clock. */
function busyPercent(before: CpuTimes, after: CpuTimes): number | null {
  const busy = after.busy - before.busy;
  const all = busy + after.idle - before.idle;
  // The kernel may count a CPU's idle time back a little.
  return all > 0 ? Math.min(100, Math.max(0, (100 * busy) / all)) : null;
}

interface LinkBytes {
  rx: number;
  tx: number;
}

/** Source: proc_net_dev(5): eight figures of what came in, the bytes first, then of what went out. */
function linkBytes(table: string): Map<string, LinkBytes> {
  const links = new Map<string, LinkBytes>();
  for (const line of table.split("\n").slice(2)) {
    const end = line.lastIndexOf(":");
    if (end === -1) continue;
    const figures = line
      .slice(end + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    const [rx = Number.NaN, tx = Number.NaN] = [figures[0], figures[8]];
    links.set(line.slice(0, end).trim(), { rx, tx });
  }
  return links;
}
