/** How large and how long the parts of the front's benchmark are. */

import type { WarmUp } from "../warm-up.ts";

export type Part = "requests" | "streams" | "soak";
export const PARTS: readonly Part[] = ["requests", "streams", "soak"];

export interface FrontLimits {
  /** All targets are measured once in each round; figures are medians of rounds. */
  rounds: number;
  warmUp: WarmUp;
  requests: { bodyBytes: number[]; concurrency: number[]; sliceMs: number };
  streams: {
    shapes: StreamShape[];
    rampMs: number;
    /** One window before the rounds, which does not count. */
    warmMs: number;
    windowMs: number;
    settleMs: number;
  };
  soak: { durationMs: number; clients: number; abortShare: number; sampleMs: number };
}

export interface StreamShape {
  streams: number;
  /** Events a second of each. */
  rate: number;
}

const KB = 1024;

/** A full run: about 25 minutes with all targets, without the soak. */
export const FULL: FrontLimits = {
  rounds: 5,
  warmUp: { requests: 60_000, limitMs: 30_000 },
  requests: {
    bodyBytes: [200, 2 * KB, 16 * KB, 128 * KB, 1024 * KB],
    concurrency: [1, 64],
    sliceMs: 1000,
  },
  streams: {
    shapes: [
      { streams: 500, rate: 20 },
      { streams: 2000, rate: 5 },
    ],
    rampMs: 1000,
    warmMs: 5000,
    windowMs: 5000,
    settleMs: 3000,
  },
  soak: { durationMs: 600_000, clients: 24, abortShare: 0.05, sampleMs: 1000 },
};

/** To see that it works and roughly where things are. */
export const QUICK: FrontLimits = {
  rounds: 3,
  warmUp: { requests: 20_000, limitMs: 8000 },
  requests: { ...FULL.requests, sliceMs: 300 },
  streams: {
    ...FULL.streams,
    shapes: [{ streams: 500, rate: 20 }],
    warmMs: 1000,
    windowMs: 2000,
    settleMs: 1000,
  },
  soak: { ...FULL.soak, durationMs: 20_000, sampleMs: 250 },
};
