/** How busy this machine is: CPU, memory, the disk of the model cache, the network. */

import { statfs } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { messageOf } from "../protocol/errors.ts";
import type { Log } from "../util/log.ts";
import { sleep } from "../util/sleep.ts";
import { type LinkRates, machineReader } from "./machine.ts";

/** Null is unknown. */
export interface HostLoad {
  cpuPercent: number | null;
  memoryUsedBytes: number | null;
  memoryBytes: number | null;
  /** What a user may still write where models are kept. */
  diskFreeBytes: number | null;
  /** Over all links that leave the machine. */
  netRxBytesPerS: number | null;
  netTxBytesPerS: number | null;
  /** The time of the reading of CPU and memory, by `performance.now()`. */
  at: number;
}

export const HOST_DEFAULTS = {
  /** Between two readings of CPU and memory. */
  intervalMs: 2_000,
  /** Between two readings of disk and network: the latter starts programs where there is no /proc. */
  slowMs: 30_000,
  /** How long the disk may take to answer: one behind a network may be away. */
  diskTimeoutMs: 5_000,
};

export type HostSettings = typeof HOST_DEFAULTS;

export interface HostLoadOptions {
  /** The folder of the model cache. */
  cacheDir: string;
  log: Log;
  settings?: Partial<HostSettings>;
}

export interface HostLoadReader extends Disposable {
  /** Null before the first reading. */
  read(): HostLoad | null;
}

// Not the machine's own: what they carry goes over another link too, or does not leave.
const INNER = /^(?:lo\d*|veth|docker|br-|virbr|cni|flannel|cali|tun|tap|podman|ifb|dummy|kube)/;

/** Never throws. What a system does not show is null. */
export function startHostLoad(options: HostLoadOptions): HostLoadReader {
  const settings = { ...HOST_DEFAULTS, ...options.settings };
  const stopping = new AbortController();
  const { signal } = stopping;
  let load: HostLoad | null = null;
  let slow: Pick<HostLoad, "diskFreeBytes" | "netRxBytesPerS" | "netTxBytesPerS"> = {
    diskFreeBytes: null,
    netRxBytesPerS: null,
    netTxBytesPerS: null,
  };
  let isLogged = false;
  const every = async (waitMs: (turn: number) => number, work: () => Promise<void>) => {
    for (let turn = 0; !signal.aborted; turn += 1) {
      try {
        await work();
      } catch (error) {
        if (!isLogged) options.log.warn(`the machine's load is unknown: ${messageOf(error)}`);
        isLogged = true;
      }
      await sleep(waitMs(turn), signal);
    }
  };
  const run = async () => {
    const machine = await machineReader();
    const fast = every(
      () => settings.intervalMs,
      async () => {
        const { cpuPercent, memoryBytes, memoryUsedBytes } = await machine.load();
        load = {
          ...slow,
          cpuPercent: sound(cpuPercent),
          memoryBytes: sound(memoryBytes),
          memoryUsedBytes: sound(memoryUsedBytes),
          at: performance.now(),
        };
      },
    );
    // A rate needs two looks: the second is not long after the first.
    const rare = every(
      (turn) => (turn === 0 ? settings.intervalMs : settings.slowMs),
      async () => {
        const [net, diskFreeBytes] = await Promise.all([
          machine.links(),
          diskFree(options.cacheDir, settings.diskTimeoutMs),
        ]);
        slow = { diskFreeBytes, ...networkRates(net) };
        if (load) load = { ...load, ...slow };
      },
    );
    await Promise.all([fast, rare]);
  };
  void run().catch((error: unknown) => {
    options.log.warn(`the machine's load is unknown: ${messageOf(error)}`);
  });
  return {
    read: () => load,
    // What was asked last is not waited for: a disk or a program that does not answer holds nothing up.
    [Symbol.dispose]: () => stopping.abort(),
  };
}

/** The sums over outer links; null until a link has been read twice. */
export function networkRates(links: readonly LinkRates[]): {
  netRxBytesPerS: number | null;
  netTxBytesPerS: number | null;
} {
  const outer = links.filter(({ iface }) => !INNER.test(iface));
  const sum = (of: (link: (typeof outer)[number]) => unknown) => {
    const values = outer.map(of).map(sound);
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((a, b) => a + b, 0);
  };
  return {
    netRxBytesPerS: sum(({ rx_sec }) => rx_sec),
    netTxBytesPerS: sum(({ tx_sec }) => tx_sec),
  };
}

/** Where models are kept: Hugging Face's cache, as its library finds it. */
export function modelCacheDir(env: Record<string, string | undefined>): string {
  const home = env["HOME"] || os.homedir();
  const cache = env["XDG_CACHE_HOME"] || path.join(home, ".cache");
  return env["HF_HUB_CACHE"] || env["HF_HOME"] || path.join(cache, "huggingface");
}

/** Of the folder, or of the nearest one above it that is there. */
async function diskFree(dir: string, timeoutMs: number): Promise<number | null> {
  const ask = async (at: string): Promise<number | null> => {
    const info = await statfs(at).catch(() => null);
    if (info) return sound(info.bavail * info.bsize);
    const above = path.dirname(at);
    return above === at ? null : ask(above);
  };
  const late = Promise.withResolvers<null>();
  const timer = setTimeout(() => late.resolve(null), timeoutMs);
  try {
    return await Promise.race([ask(path.resolve(dir)), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function sound(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}
