/** The metrics of this process: its version, memory, open files and event loop. */

import { readdir } from "node:fs/promises";
import type { Registry } from "./prometheus.ts";

export interface ProcessOptions {
  version: string;
  bun: string;
  /** How often the lag is measured. */
  lagIntervalMs: number;
  /** How long a late turn of it is shown: longer than the usual time between two scrapes. */
  lagWindowMs: number;
}

export function registerProcessMetrics(registry: Registry, options: ProcessOptions): Disposable {
  const lag = watchLag(options);
  registry.collected(
    {
      name: "llmnode_build_info",
      help: "Always 1; the labels name the version.",
      labelNames: ["version", "bun"],
    },
    (gauge) => gauge.set({ version: options.version, bun: options.bun }, 1),
  );
  registry.collected(
    {
      name: "process_resident_memory_bytes",
      help: "Memory of the head's process.",
      labelNames: [],
    },
    (gauge) => gauge.set({}, process.memoryUsage.rss()),
  );
  registry.collected(
    {
      name: "process_open_fds",
      help: "Open file descriptors of the head's process.",
      labelNames: [],
    },
    async (gauge) => {
      const count = await openDescriptors();
      if (count !== null) gauge.set({}, count);
    },
  );
  registry.collected(
    {
      name: "llmnode_event_loop_lag_seconds",
      help: `Longest delay of the event loop in the last ${options.lagWindowMs / 1000} seconds.`,
      labelNames: [],
    },
    (gauge) => gauge.set({}, lag.maxMs() / 1000),
  );
  return lag;
}

/** Null where the system has no such list. */
async function openDescriptors(): Promise<number | null> {
  try {
    // The list itself is read through one descriptor.
    return (await readdir("/dev/fd")).length - 1;
  } catch {
    return null;
  }
}

/** A timer that notes how late it fires; the process does not stay alive for it. */
function watchLag({ lagIntervalMs, lagWindowMs }: ProcessOptions): Disposable & {
  maxMs(): number;
} {
  const lateMs = new Float64Array(Math.max(1, Math.ceil(lagWindowMs / lagIntervalMs)));
  let next = 0;
  let expectedAt = performance.now() + lagIntervalMs;
  const late = () => Math.max(0, performance.now() - expectedAt);
  const timer = setInterval(() => {
    lateMs[next] = late();
    next = (next + 1) % lateMs.length;
    expectedAt = performance.now() + lagIntervalMs;
  }, lagIntervalMs);
  timer.unref();
  return {
    // A turn that is being late right now counts too.
    maxMs: () => Math.max(late(), ...lateMs),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
