/** What Linux tells about a process: time on the processor, memory, descriptors. */

import { readdirSync, readFileSync } from "node:fs";

/** `/proc` counts in hundredths of a second on every Linux (proc_pid_stat(5), USER_HZ). */
export const TICK_MS = 10;

/** User and system time of a process and its children, in milliseconds. */
export function cpuMs(pid: number): number {
  return family(pid).reduce((sum, one) => sum + ownCpuMs(one), 0);
}

/** What threads of a process do. Those of Bun have names; those of others are all `other`. */
export const THREAD_KINDS = ["main", "fetch", "jit", "gc", "other"] as const;
export type ThreadTimes = Record<(typeof THREAD_KINDS)[number], number>;

export function eachThread(figure: (kind: keyof ThreadTimes) => number): ThreadTimes {
  return {
    main: figure("main"),
    fetch: figure("fetch"),
    jit: figure("jit"),
    gc: figure("gc"),
    other: figure("other"),
  };
}

export interface CpuUsed {
  /** Of the process and its children. */
  ms: number;
  threads: ThreadTimes;
}

/** Begins to count; the function returned tells what has been used since. */
export function cpuMeter(pid: number): () => CpuUsed {
  const msBefore = cpuMs(pid);
  const before = threadsOf(pid);
  return () => {
    const ms = cpuMs(pid) - msBefore;
    const threads = eachThread(() => 0);
    let seen = 0;
    for (const [id, { name, ms: total }] of threadsOf(pid)) {
      const used = total - (before.get(id)?.ms ?? 0);
      threads[id === pid ? "main" : threadKind(name)] += used;
      seen += used;
    }
    // Threads that have ended meanwhile, and children.
    threads.other += Math.max(0, ms - seen);
    return { ms, threads };
  };
}

/** By the names that Bun and its JavaScript engine give; Linux keeps 15 characters of a name. */
export function threadKind(name: string): keyof ThreadTimes {
  if (name === "HTTP Client") return "fetch";
  if (name.startsWith("JIT")) return "jit";
  return /Helper Thread$|ollector Thread$/.test(name) ? "gc" : "other";
}

function threadsOf(pid: number): Map<number, { name: string; ms: number }> {
  const found = new Map<number, { name: string; ms: number }>();
  for (const id of list(`/proc/${pid}/task`).map(Number)) {
    const stat = readStat(`/proc/${pid}/task/${id}/stat`);
    const ticks = stat.fields.slice(11, 13).reduce((sum, field) => sum + Number(field), 0);
    found.set(id, { name: stat.name, ms: ticks * TICK_MS });
  }
  return found;
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
  const { fields } = readStat(`/proc/${pid}/stat`);
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return ticks * TICK_MS;
}

/** The name in parentheses may hold anything; utime is the 12th field after it. */
function readStat(path: string): { name: string; fields: string[] } {
  const stat = read(path);
  const end = stat.lastIndexOf(")");
  return { name: stat.slice(stat.indexOf("(") + 1, end), fields: stat.slice(end + 2).split(" ") };
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // it has ended
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
