/** What the benchmark asks of its load process, and what comes back. */

import type { ThreadTimes } from "./proc.ts";
import type { ExtraHeaders } from "./wire.ts";

/** Where the load goes. */
export interface Aim {
  port: number;
  headers: ExtraHeaders;
  /** The process whose time on the processor is taken; null: none. */
  watchPid: number | null;
}

export interface RequestsJob extends Aim {
  kind: "requests";
  bodyBytes: number;
  concurrency: number;
  durationMs: number;
  /** Ends it sooner. */
  maxRequests?: number;
}

export interface RequestsResult {
  requests: number;
  errors: number;
  elapsedMs: number;
  cpuMs: number | null;
  threadsMs: ThreadTimes | null;
  /** Microseconds, as `Histogram.entries`. */
  latencies: Array<[number, number]>;
}

export interface StreamsJob extends Aim {
  kind: "streams";
  streams: number;
  /** Events a second of each stream. */
  rate: number;
  /** The streams start spread over this time. */
  rampMs: number;
  /** While all of them run, events and processor time are counted for so long. */
  windowMs: number;
}

export interface StreamsResult {
  windowMs: number;
  windowEvents: number;
  cpuMs: number | null;
  threadsMs: ThreadTimes | null;
  /** At the end of the window. */
  residentBytes: number | null;
  /** Of all frames, in the window or not. */
  frames: number;
  lost: number;
  /** Twice or in the wrong order, or no frames at all. */
  wrong: number;
  /** Streams without their end mark. */
  broken: number;
  /** From the engine's sending, in microseconds, as `Histogram.entries`. */
  delays: Array<[number, number]>;
}

export interface SoakJob extends Aim {
  kind: "soak";
  clients: number;
  durationMs: number;
  /** Of all calls, the share that the client gives up in the middle of a stream. */
  abortShare: number;
  seed: number;
}

export interface SoakResult {
  requests: number;
  streams: number;
  aborts: number;
  failures: number;
}

export interface JobResults {
  requests: RequestsResult;
  streams: StreamsResult;
  soak: SoakResult;
}

export type Job = RequestsJob | StreamsJob | SoakJob;

export interface Order {
  id: number;
  job: Job;
}

export type Report = { id: number } & ({ result: JobResults[Job["kind"]] } | { error: string });
