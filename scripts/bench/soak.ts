/** Measures a long run with clients that give up: whether memory and descriptors stay flat. */

import type { FrontLimits } from "./front/options.ts";
import type { Load } from "./load/load.ts";
import { descriptors, residentBytes } from "./proc.ts";
import { slope } from "./stats.ts";
import type { Target, TargetName } from "./targets.ts";

export interface SoakRow {
  target: TargetName;
  duration_s: number;
  requests: number;
  streams: number;
  aborts: number;
  failures: number;
  memory_before_bytes: number;
  memory_after_bytes: number;
  /** Least squares over the samples after the warm-up. */
  memory_slope_mb_per_min: number;
  descriptors_before: number;
  descriptors_after: number;
}

export interface SoakOptions {
  load: Load;
  targets: readonly Target[];
  limits: FrontLimits;
  say: (line: string) => void;
}

/** Of the duration: heaps and pools find their size in it. */
const WARM_UP_SHARE = 0.25;
/** Connections of clients that have gone are closed by then. */
const CLOSE_MS = 2000;

/** All relays at the same time, so that what disturbs the machine disturbs all of them. */
export function measureSoak(options: SoakOptions): Promise<SoakRow[]> {
  const { durationMs, clients } = options.limits.soak;
  const relays = options.targets.filter((target) => target.pid !== null);
  options.say(`soak: ${clients} clients of each relay for ${durationMs / 1000} s`);
  return Promise.all(relays.map((target) => soakOne(options, target, target.pid ?? 0)));
}

async function soakOne(options: SoakOptions, target: Target, pid: number): Promise<SoakRow> {
  const { durationMs, clients, abortShare, sampleMs } = options.limits.soak;
  const memoryBefore = residentBytes(pid);
  const descriptorsBefore = descriptors(pid);
  const started = performance.now();
  const samples: Array<[minutes: number, megabytes: number]> = [];
  const timer = setInterval(() => {
    const passedMs = performance.now() - started;
    if (passedMs < durationMs * WARM_UP_SHARE || passedMs > durationMs) return;
    samples.push([passedMs / 60_000, residentBytes(pid) / 1e6]);
  }, sampleMs);
  const { port, headers } = target;
  const job = { port, headers, watchPid: pid, clients, durationMs, abortShare };
  try {
    const result = await options.load.do({ kind: "soak", ...job, seed: 1 });
    await Bun.sleep(CLOSE_MS);
    return {
      target: target.name,
      duration_s: durationMs / 1000,
      ...result,
      memory_before_bytes: memoryBefore,
      memory_after_bytes: residentBytes(pid),
      memory_slope_mb_per_min: slope(samples),
      descriptors_before: descriptorsBefore,
      descriptors_after: descriptors(pid),
    };
  } finally {
    clearInterval(timer);
  }
}
