/** How large and how long the benchmarks of lanes and sessions are, and how that is said. */

import { parseArgs } from "node:util";
import { parseDuration } from "../../../src/util/units.ts";
import type { WarmUp } from "../warm-up.ts";

/** Tells the engine how large an answer should be; one of the headers that a head passes on. */
export const ANSWER_BYTES_HEADER = "x-session-id";

export interface LaneLimits {
  /** Each figure is measured once in each round, of all targets in turn; medians count. */
  rounds: number;
  warmUp: WarmUp;
  requests: { bodyBytes: number; concurrency: readonly number[]; sliceMs: number };
  streams: { streams: number; rate: number; rampMs: number; windowMs: number };
  /** Bodies in one piece, one after the other. */
  bulk: { bytes: number; sliceMs: number };
  /** `readers` ask for `answerBytes` each and read next to nothing of it. */
  stalled: { readers: number; answerBytes: number; streams: number; rate: number };
}

const MB = 1_000_000;

export const LANE_FULL: LaneLimits = {
  rounds: 5,
  warmUp: { requests: 60_000, limitMs: 30_000 },
  requests: { bodyBytes: 2048, concurrency: [1, 64], sliceMs: 2000 },
  streams: { streams: 300, rate: 20, rampMs: 1000, windowMs: 5000 },
  bulk: { bytes: 100 * MB, sliceMs: 3000 },
  stalled: { readers: 200, answerBytes: 32 * MB, streams: 100, rate: 20 },
};

export const LANE_QUICK: LaneLimits = {
  ...LANE_FULL,
  rounds: 3,
  warmUp: { requests: 20_000, limitMs: 8000 },
  requests: { ...LANE_FULL.requests, sliceMs: 500 },
  streams: { ...LANE_FULL.streams, windowMs: 2000 },
  bulk: { ...LANE_FULL.bulk, sliceMs: 100 },
};

export interface LaneOptions {
  limits: LaneLimits;
  json: string | null;
  binary: string | null;
}

export const LANE_USAGE = `scripts/run.sh bench lane [options]

  --quick                  smaller and shorter
  --json <file>            writes all figures there
  --binary <file>          the llmnode to measure; default: of this tree, built if stale
  --rounds <n>             how often each figure is measured; the median counts
  --warm-up <n>            requests to each one before anything counts
  --slice <duration>       how long requests are sent in one round
  --streams <n@rate>       streams, and events a second of each
  --window <duration>      how long streams run in one round
  --bulk <bytes>           bodies of that size, up and down
  --stalled <n>            readers that do not read
  --live <n@rate>          streams beside them`;

/** Throws on anything that it does not understand. */
export function readLaneOptions(args: string[]): LaneOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      binary: { type: "string" },
      rounds: { type: "string" },
      "warm-up": { type: "string" },
      slice: { type: "string" },
      streams: { type: "string" },
      window: { type: "string" },
      bulk: { type: "string" },
      stalled: { type: "string" },
      live: { type: "string" },
    },
  });
  const limits = structuredClone(values.quick ? LANE_QUICK : LANE_FULL);
  if (values.rounds !== undefined) limits.rounds = positive("rounds", values.rounds);
  if (values["warm-up"] !== undefined) {
    limits.warmUp.requests = positive("warm-up", values["warm-up"]);
  }
  if (values.slice !== undefined) limits.requests.sliceMs = duration("slice", values.slice);
  if (values.streams !== undefined) Object.assign(limits.streams, shape("streams", values.streams));
  if (values.window !== undefined) limits.streams.windowMs = duration("window", values.window);
  if (values.bulk !== undefined) limits.bulk.bytes = positive("bulk", values.bulk);
  if (values.stalled !== undefined) limits.stalled.readers = positive("stalled", values.stalled);
  if (values.live !== undefined) Object.assign(limits.stalled, shape("live", values.live));
  limits.streams.rampMs = Math.min(limits.streams.rampMs, limits.streams.windowMs);
  return { limits, json: values.json ?? null, binary: values.binary ?? null };
}

export interface SessionsOptions {
  counts: readonly number[];
  /** How long the head's time on the processor is taken, and how long lists are asked for. */
  windowMs: number;
  /** What has been measured by then is told, and the run has failed. */
  limitMs: number;
  json: string | null;
  binary: string | null;
}

export const SESSIONS_USAGE = `scripts/run.sh bench sessions [options]

  --quick                  shorter
  --json <file>            writes all figures there
  --binary <file>          the llmnode to measure; default: of this tree, built if stale
  --workers <n,...>        how many workers; default 500,2000,4000
  --window <duration>      how long processor time is taken, and lists are asked for
  --limit <duration>       it ends after so long at the latest, and tells what it has (20m)`;

/** Throws on anything that it does not understand. */
export function readSessionsOptions(args: string[]): SessionsOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      binary: { type: "string" },
      workers: { type: "string", default: "500,2000,4000" },
      window: { type: "string" },
      limit: { type: "string", default: "20m" },
    },
  });
  const windowMs = values.quick ? 5000 : 30_000;
  return {
    counts: values.workers.split(",").map((text) => positive("workers", text)),
    windowMs: values.window === undefined ? windowMs : duration("window", values.window),
    limitMs: duration("limit", values.limit),
    json: values.json ?? null,
    binary: values.binary ?? null,
  };
}

function shape(name: string, text: string): { streams: number; rate: number } {
  const [count = "", rate = ""] = text.split("@");
  return { streams: positive(name, count), rate: positive(name, rate) };
}

function positive(name: string, text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= 1_000_000_000) return n;
  throw new Error(`--${name}: "${text}" is no positive whole number`);
}

function duration(name: string, text: string): number {
  const ms = parseDuration(text);
  if (ms === null || ms === 0) throw new Error(`--${name}: "${text}" is no duration such as 500ms`);
  return ms;
}
