/** What Linux tells about a process: time on the processor, memory, descriptors. */

import { readdirSync, readFileSync } from "node:fs";

/** `/proc` counts in hundredths of a second on every Linux (proc_pid_stat(5), USER_HZ). */
export const TICK_MS = 10;

/** User and system time of a process and its children, in milliseconds. */
export function cpuMs(pid: number): number {
  return family(pid).reduce((sum, one) => sum + ownCpuMs(one), 0);
}

/** Resident memory of a process and its children, in bytes. */
export function residentBytes(pid: number): number {
  const sizes = family(pid).map((one) => {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(read(`/proc/${one}/status`))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  });
  return sizes.reduce((sum, size) => sum + size, 0);
}

export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The cores that this process may use. */
export function allowedCores(): number[] {
  const list = /^Cpus_allowed_list:\s+(\S+)$/m.exec(read("/proc/self/status"))?.[1] ?? "";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

function family(pid: number): number[] {
  const children = read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
  return [pid, ...children.flatMap(family)];
}

/** Own time and that of children that have ended and were waited for. */
function ownCpuMs(pid: number): number {
  const stat = read(`/proc/${pid}/stat`);
  // The name in parentheses may hold anything; utime is the 12th field after it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return ticks * TICK_MS;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
