/** How large and how long the parts of the front's benchmark are. */

export type Part = "requests" | "streams" | "soak";
export const PARTS: readonly Part[] = ["requests", "streams", "soak"];

export interface FrontLimits {
  /** All targets are measured once in each round; figures are medians of rounds. */
  rounds: number;
  requests: { bodyBytes: number[]; concurrency: number[]; sliceMs: number; warmMs: number };
  streams: { shapes: StreamShape[]; rampMs: number; windowMs: number; settleMs: number };
  soak: { durationMs: number; clients: number; abortShare: number; sampleMs: number };
}

export interface StreamShape {
  streams: number;
  /** Events a second of each. */
  rate: number;
}

const KB = 1024;

/** A full run: about twelve minutes without the soak. */
export const FULL: FrontLimits = {
  rounds: 5,
  requests: {
    bodyBytes: [200, 2 * KB, 16 * KB, 128 * KB, 1024 * KB],
    concurrency: [1, 64],
    sliceMs: 1000,
    warmMs: 2000,
  },
  streams: {
    shapes: [
      { streams: 500, rate: 20 },
      { streams: 2000, rate: 5 },
    ],
    rampMs: 1000,
    windowMs: 5000,
    settleMs: 3000,
  },
  soak: { durationMs: 600_000, clients: 24, abortShare: 0.05, sampleMs: 1000 },
};

/** To see that it works and roughly where things are. */
export const QUICK: FrontLimits = {
  rounds: 3,
  requests: { ...FULL.requests, sliceMs: 300, warmMs: 500 },
  streams: { ...FULL.streams, windowMs: 2000, settleMs: 1000 },
  soak: { ...FULL.soak, durationMs: 20_000, sampleMs: 250 },
};
