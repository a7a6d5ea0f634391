/** Warms what is measured: compilers of hot code run beside it until it has been asked often. */

import type { Aim } from "./jobs.ts";
import type { Load } from "./load/load.ts";

export interface WarmUp {
  /** Of 2 KB, 64 at a time. */
  requests: number;
  /** Targets that are too slow for so many get this long. */
  limitMs: number;
}

export interface WarmUpOptions {
  load: Load;
  targets: ReadonlyArray<{ name: string; aim: Aim }>;
  say: (line: string) => void;
}

const JOB = { kind: "requests", bodyBytes: 2048, concurrency: 64 } as const;

export async function warmUp(options: WarmUpOptions, { requests, limitMs }: WarmUp): Promise<void> {
  const { load, targets, say } = options;
  say(`warm-up: ${requests} requests each, at most ${limitMs / 1000} s`);
  for (const { name, aim } of targets) {
    const on = { ...JOB, ...aim, durationMs: limitMs, maxRequests: requests };
    const got = (await load.do(on)).requests;
    if (got < requests) say(`${name} was warmed by ${got} requests only`);
  }
}
