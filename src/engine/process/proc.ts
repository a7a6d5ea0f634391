/** Reads processes from Linux's /proc; where there is none, there is nothing to read. */

import { readFileSync } from "node:fs";
import { readdir, readFile, readlink } from "node:fs/promises";
import { cleanLine } from "../../util/text.ts";

export interface ProcessEntry {
  pid: number;
  parent: number;
  group: number;
  session: number;
  /** As in proc(5): R, S, D, T, Z, ... A zombie (Z) holds nothing any more. */
  state: string;
  /** Clock ticks since boot; with the pid it names one process for good. */
  startTime: string;
}

/** The variable that marks an engine's processes. */
export const ENGINE_MARK = "LLMNODE_ENGINE_ID";

export async function processIds(): Promise<number[]> {
  const names = await readdir("/proc").catch(() => []);
  return names.filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Null if there is no such process (any more). */
export async function readProcess(pid: number): Promise<ProcessEntry | null> {
  return parseStat(pid, await readProcFile(pid, "stat"));
}

/** The same at once, for a process that may end the next moment. */
export function readProcessNow(pid: number): ProcessEntry | null {
  try {
    return parseStat(pid, readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    // It has ended, or there is no /proc.
    return null;
  }
}

/** Names this run of the machine: pids mean nothing in another. Empty where it is not known. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    // Not Linux: then nothing is adopted.
    return "";
  }
}

function parseStat(pid: number, stat: string | null): ProcessEntry | null {
  const fields = statFields(stat);
  if (fields.length < 20) return null;
  return {
    pid,
    state: fields[0] ?? "?",
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startTime: fields[19] ?? "",
  };
}

/** From the state on: the name before it may itself hold spaces and parentheses. */
function statFields(stat: string | null): string[] {
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
}

/** How many are read in one turn of the event loop: about a millisecond. */
const PROCESSES_A_TURN = 64;

/**
 * Reads at once, in slices: a file of /proc costs a tenth of what it costs to have a thread read it,
 * and all that other programs do on this machine is in there too.
 */
export async function listProcesses(): Promise<ProcessEntry[]> {
  const entries: ProcessEntry[] = [];
  for (const [index, pid] of (await processIds()).entries()) {
    if (index > 0 && index % PROCESSES_A_TURN === 0) await new Promise(setImmediate);
    const entry = readProcessNow(pid);
    if (entry) entries.push(entry);
  }
  return entries;
}

/** The engine that a process was started for, or null if it carries no mark that we may read. */
export async function engineMarkOf(pid: number): Promise<string | null> {
  const environ = await readProcFile(pid, "environ");
  const entry = environ?.split("\0").find((text) => text.startsWith(`${ENGINE_MARK}=`));
  return entry === undefined ? null : entry.slice(ENGINE_MARK.length + 1);
}

/** The living processes that carry an engine's mark, this one aside. */
export async function markedProcesses(mark: string): Promise<ProcessEntry[]> {
  const marked: ProcessEntry[] = [];
  for (const entry of await listProcesses()) {
    if (entry.state === "Z" || entry.pid === process.pid) continue;
    if ((await engineMarkOf(entry.pid)) === mark) marked.push(entry);
  }
  return marked;
}

/** The short name of a process, safe to print. */
export async function processName(pid: number): Promise<string | null> {
  const name = await readProcFile(pid, "comm");
  return name === null ? null : cleanLine(name.trim(), 64);
}

/** The inodes of the sockets that a process holds; empty if we may not look. */
export async function socketInodes(pid: number): Promise<string[]> {
  const folder = `/proc/${pid}/fd`;
  const inodes: string[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    const target = await readlink(`${folder}/${name}`).catch(() => "");
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
    if (inode !== undefined) inodes.push(inode);
  }
  return inodes;
}

/** The ports on which sockets listen, by inode. Format: proc_net_tcp in the kernel's documents. */
export async function listeningPorts(): Promise<Map<string, number>> {
  const ports = new Map<string, number>();
  for (const table of ["tcp", "tcp6"]) {
    const text = await readFile(`/proc/net/${table}`, "utf8").catch(() => "");
    for (const line of text.split("\n").slice(1)) {
      const fields = line.trim().split(/\s+/);
      const [local, state, inode] = [fields[1], fields[3], fields[9]];
      if (state !== "0A" || local === undefined || inode === undefined) continue;
      ports.set(inode, Number.parseInt(local.split(":").at(-1) ?? "", 16));
    }
  }
  return ports;
}

// A process may end between being listed and being read, and others' files may be closed to us:
// both mean "not known".
async function readProcFile(pid: number, name: string): Promise<string | null> {
  return readFile(`/proc/${pid}/${name}`, "utf8").catch(() => null);
}

/** Source: proc(5), `USER_HZ`; 100 on every machine that Linux runs engines on. */
const MS_PER_TICK = 10;

/** Of all of them together, in ms; null where there is no /proc. Those that are gone count nothing. */
export async function processorMs(pids: readonly number[]): Promise<number | null> {
  let total: number | null = null;
  for (const pid of pids) {
    const fields = statFields(await readProcFile(pid, "stat"));
    const ticks = Number(fields[11]) + Number(fields[12]);
    if (Number.isFinite(ticks)) total = (total ?? 0) + ticks * MS_PER_TICK;
  }
  return total;
}
