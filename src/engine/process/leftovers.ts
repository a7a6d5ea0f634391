/** What is still held when an engine should be gone: its processes, its port, its memory on GPUs. */

import type { HostPort } from "../../util/host-port.ts";
import { sleep } from "../../util/sleep.ts";
import { probeTcp } from "../../util/tcp.ts";
import { cleanLine, count } from "../../util/text.ts";
import { formatBytes } from "../../util/units.ts";
import { portOwner } from "./network.ts";
import { processName, type ProcessEntry } from "./proc.ts";

/** One process on one GPU, by the number that the whole machine knows it by. */
export interface GpuHold {
  pid: number;
  /** The GPU's UUID. */
  gpu: string;
  memoryBytes: number | null;
}

export interface Holder {
  /** Null: this user may not see which process it is. */
  pid: number | null;
  name: string | null;
  /** As in proc(5); null: the process is gone. */
  state: string | null;
  port: number | null;
  gpus: readonly Omit<GpuHold, "pid">[];
}

export interface ReleaseOptions {
  /** What could not be ended. */
  processes: readonly ProcessEntry[];
  engineId: string;
  /** Every process that the engine had. */
  seen: ReadonlySet<number>;
  /** Where the engine was reached; null: nowhere. */
  address: HostPort | null;
  /** What runs on GPUs; null: not known. */
  computeProcesses: () => Promise<readonly GpuHold[] | null>;
  /** Until when the port and the memory may be held. */
  timeoutMs: number;
  pollMs: number;
  connectTimeoutMs: number;
  /** When aborted, one check is enough. */
  force?: AbortSignal;
}

const MAX_NAMED = 3;

/** Waits until nothing is held any more; returns who still holds what after `timeoutMs`. */
export async function waitForRelease(options: ReleaseOptions): Promise<Holder[]> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const held = await findHolders(options);
    const isOver = options.force?.aborted || performance.now() >= deadline;
    if (held.length === 0 || isOver) return held;
    await sleep(options.pollMs, options.force);
  }
}

async function findHolders(options: ReleaseOptions): Promise<Holder[]> {
  const { processes, seen, address, engineId } = options;
  const holders = new Map<number | null, Holder>();
  for (const { pid, state } of processes) {
    holders.set(pid, { pid, name: await processName(pid), state, port: null, gpus: [] });
  }
  if (address !== null && (await probeTcp(address, options.connectTimeoutMs)) === null) {
    const owner = await portOwner(address.port);
    const pid = owner?.pid ?? null;
    const known = holders.get(pid) ?? { pid, name: owner?.name ?? null, state: "S", gpus: [] };
    // A stranger that was quick to take the port is no leftover; one that cannot be seen may be.
    const isOurs = owner === null || seen.has(owner.pid) || owner.engineId === engineId;
    if (isOurs) holders.set(pid, { ...known, port: address.port });
  }
  if (options.force?.aborted) return [...holders.values()];
  for (const { pid, gpu, memoryBytes } of (await options.computeProcesses()) ?? []) {
    if (!seen.has(pid)) continue;
    const known = holders.get(pid) ?? { pid, name: null, state: null, port: null, gpus: [] };
    holders.set(pid, { ...known, gpus: [...known.gpus, { gpu, memoryBytes }] });
  }
  return [...holders.values()];
}

/** In words, "pid 4711 (vllm) in state D: GPU or driver hang; holds port 8000"; null: nothing. */
export function describeHolders(holders: readonly Holder[]): string | null {
  if (holders.length === 0) return null;
  const more = holders.length - MAX_NAMED;
  const named = holders.slice(0, MAX_NAMED).map(describeHolder).join(", and ");
  return `the engine has not ended: ${named}${more > 0 ? `, and ${count(more, "other")}` : ""}`;
}

function describeHolder({ pid, name, state, port, gpus }: Holder): string {
  const holds = [
    ...(port === null ? [] : [`port ${port}`]),
    ...gpus.map(({ gpu, memoryBytes }) => {
      const memory = memoryBytes === null ? "memory" : formatBytes(memoryBytes);
      return `${memory} on GPU ${cleanLine(gpu, 40)}`;
    }),
  ].join(", ");
  const what =
    pid === null
      ? "a process that cannot be seen from here"
      : `pid ${pid}${name ? ` (${name})` : ""} ${describeState(state)}`;
  return holds === "" ? what : `${what}; holds ${holds}`;
}

function describeState(state: string | null): string {
  switch (state) {
    case null:
      return "has ended, its GPU memory is not released: GPU or driver hang";
    case "D":
      return "in state D: GPU or driver hang";
    case "T":
    case "t":
      return `in state ${state}: held by a debugger?`;
    default:
      return `in state ${state}: does not end, another user's?`;
  }
}
