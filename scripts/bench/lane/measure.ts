/** Measures what lanes cost: times, processor time, large bodies, and readers that stall. */

import type { Job, JobResults } from "../jobs.ts";
import { ANSWER_BYTES_HEADER, type LaneLimits } from "./options.ts";
import type { LaneTarget, LaneTargetName } from "./stage.ts";
import { stallReaders } from "./stalled.ts";
import type { Load } from "../load/load.ts";
import { cpuMs, residentBytes } from "../proc.ts";
import { rotated } from "../requests.ts";
import { histogram, median } from "../stats.ts";
import { warmUp } from "../warm-up.ts";

export interface MeasureOptions {
  load: Load;
  targets: readonly LaneTarget[];
  limits: LaneLimits;
  say: (line: string) => void;
}

/** Times in microseconds; added ones: minus the engine's alone of the same round. */
export interface LaneRequestsRow {
  target: LaneTargetName;
  concurrency: number;
  requests_per_s: number;
  p50_us: number;
  p99_us: number;
  added_p50_us: number;
  added_p99_us: number;
  /** Lane only: minus direct's of the same round. */
  over_direct_p50_us: number | null;
  over_direct_p99_us: number | null;
  head_cpu_us_per_request: number | null;
  worker_cpu_us_per_request: number | null;
  errors: number;
}

export interface LaneStreamsRow {
  target: LaneTargetName;
  streams: number;
  rate: number;
  frames: number;
  head_cpu_us_per_event: number | null;
  worker_cpu_us_per_event: number | null;
  delay_p50_us: number;
  delay_p99_us: number;
  /** Lost, out of order, or without its end. */
  bad: number;
}

export interface LaneBulkRow {
  target: LaneTargetName;
  way: "up" | "down";
  bytes: number;
  bodies: number;
  mb_per_s: number;
  head_cpu_ms_per_body: number | null;
  worker_cpu_ms_per_body: number | null;
  head_memory_bytes: number | null;
  worker_memory_bytes: number | null;
  errors: number;
}

export interface LaneStalledRow {
  target: LaneTargetName;
  readers: number;
  streams: number;
  alone_p50_us: number;
  alone_p99_us: number;
  beside_p50_us: number;
  beside_p99_us: number;
  bad: number;
  /** Stalled readers that were given up. */
  cut: number;
  head_bytes_per_reader: number | null;
  worker_bytes_per_reader: number | null;
}

/** What a job came to, and what head and worker used meanwhile. */
interface Metered<R> {
  result: R;
  headCpuMs: number;
  workerCpuMs: number;
  /** At the job's end. */
  headBytes: number;
  workerBytes: number;
}

type Rounds<R> = Map<LaneTarget, Metered<R>[]>;

export async function measureLaneRequests(options: MeasureOptions): Promise<LaneRequestsRow[]> {
  const { load, targets, limits, say } = options;
  const warmed = targets.map((target) => ({ name: target.name, aim: aim(target) }));
  await warmUp({ load, targets: warmed, say }, limits.warmUp);
  const rows: LaneRequestsRow[] = [];
  for (const concurrency of limits.requests.concurrency) {
    rows.push(...(await requestsAt(options, concurrency)));
  }
  return rows;
}

async function requestsAt(
  options: MeasureOptions,
  concurrency: number,
): Promise<LaneRequestsRow[]> {
  const { bodyBytes, sliceMs } = options.limits.requests;
  options.say(`requests of ${bodyBytes} bytes, ${concurrency} at a time`);
  const rounds = await inRounds(options, (target) =>
    metered(options.load, target, {
      ...aim(target),
      ...{ kind: "requests", bodyBytes, concurrency, durationMs: sliceMs },
    }),
  );
  const at = (name: LaneTargetName, round: number, q: number) => {
    const found = [...rounds].find(([target]) => target.name === name)?.[1][round];
    return histogram(found?.result.latencies).percentile(q);
  };
  return [...rounds].map(([{ name, headPid }, results]) => {
    const over = (base: LaneTargetName, q: number) =>
      median(results.map((_, round) => at(name, round, q) - at(base, round, q)));
    const requests = total(results, ({ result }) => result.requests);
    const perRequest = (figure: (one: (typeof results)[number]) => number) =>
      headPid === null ? null : (total(results, figure) * 1000) / requests;
    return {
      target: name,
      concurrency,
      requests_per_s: median(
        results.map(({ result }) => (result.requests / result.elapsedMs) * 1000),
      ),
      p50_us: median(results.map((_, round) => at(name, round, 0.5))),
      p99_us: median(results.map((_, round) => at(name, round, 0.99))),
      added_p50_us: over("engine", 0.5),
      added_p99_us: over("engine", 0.99),
      over_direct_p50_us: name === "lane" ? over("direct", 0.5) : null,
      over_direct_p99_us: name === "lane" ? over("direct", 0.99) : null,
      head_cpu_us_per_request: perRequest(({ headCpuMs }) => headCpuMs),
      worker_cpu_us_per_request: perRequest(({ workerCpuMs }) => workerCpuMs),
      errors: total(results, ({ result }) => result.errors),
    };
  });
}

/** Processor time is of the whole run, start and end of the streams included. */
export async function measureLaneStreams(options: MeasureOptions): Promise<LaneStreamsRow[]> {
  const { streams, rate } = options.limits.streams;
  options.say(`${streams} streams at ${rate} events/s`);
  const run = (target: LaneTarget) =>
    metered(options.load, target, {
      ...{ ...aim(target), ...options.limits.streams, kind: "streams" },
    });
  // One each for the compiler.
  for (const target of options.targets) await run(target);
  const rounds = await inRounds(options, run);
  return [...rounds].map(([target, results]) => {
    const frames = total(results, ({ result }) => result.frames);
    const perEvent = (figure: (one: (typeof results)[number]) => number) =>
      target.headPid === null ? null : (total(results, figure) * 1000) / frames;
    return {
      target: target.name,
      streams,
      rate,
      frames,
      head_cpu_us_per_event: perEvent(({ headCpuMs }) => headCpuMs),
      worker_cpu_us_per_event: perEvent(({ workerCpuMs }) => workerCpuMs),
      delay_p50_us: median(results.map(({ result }) => histogram(result.delays).percentile(0.5))),
      delay_p99_us: median(results.map(({ result }) => histogram(result.delays).percentile(0.99))),
      bad: total(results, ({ result }) => badOf(result)),
    };
  });
}

export async function measureLaneBulk(options: MeasureOptions): Promise<LaneBulkRow[]> {
  const { bytes, sliceMs } = options.limits.bulk;
  const rows: LaneBulkRow[] = [];
  for (const way of ["up", "down"] as const) {
    options.say(`bodies of ${bytes} bytes, ${way}`);
    const rounds = await inRounds(options, (target) =>
      metered(options.load, target, {
        ...aim(target),
        headers: way === "down" ? { [ANSWER_BYTES_HEADER]: String(bytes) } : {},
        bodyBytes: way === "up" ? bytes : 200,
        ...{ kind: "requests", concurrency: 1, durationMs: sliceMs },
      }),
    );
    for (const [target, results] of rounds) {
      const bodies = total(results, ({ result }) => result.requests);
      const known = <T>(figure: T) => (target.headPid === null ? null : figure);
      rows.push({
        target: target.name,
        way,
        bytes,
        bodies,
        mb_per_s: median(
          results.map(({ result }) => (result.requests * bytes) / 1000 / result.elapsedMs),
        ),
        head_cpu_ms_per_body: known(total(results, ({ headCpuMs }) => headCpuMs) / bodies),
        worker_cpu_ms_per_body: known(total(results, ({ workerCpuMs }) => workerCpuMs) / bodies),
        head_memory_bytes: known(Math.max(...results.map(({ headBytes }) => headBytes))),
        worker_memory_bytes: known(Math.max(...results.map(({ workerBytes }) => workerBytes))),
        errors: total(results, ({ result }) => result.errors),
      });
    }
  }
  return rows;
}

/** Each target's streams alone and then beside the stalled readers. */
export async function measureLaneStalled(options: MeasureOptions): Promise<LaneStalledRow[]> {
  const { readers, answerBytes, streams, rate } = options.limits.stalled;
  const { rampMs, windowMs } = options.limits.streams;
  const rows: LaneStalledRow[] = [];
  for (const target of options.targets) {
    options.say(`${target.name}: ${streams} streams, alone and beside ${readers} stalled readers`);
    const live = () =>
      metered(options.load, target, {
        ...{ ...aim(target), kind: "streams", streams, rate, rampMs, windowMs },
      });
    const alone = await live();
    using stalled = await stallReaders({ port: target.port, readers, answerBytes });
    const beside = await live();
    const q = ({ result }: typeof alone, share: number) =>
      histogram(result.delays).percentile(share);
    const known = (bytes: number) => (target.headPid === null ? null : bytes / readers);
    rows.push({
      target: target.name,
      readers,
      streams,
      alone_p50_us: q(alone, 0.5),
      alone_p99_us: q(alone, 0.99),
      beside_p50_us: q(beside, 0.5),
      beside_p99_us: q(beside, 0.99),
      bad: badOf(beside.result),
      cut: stalled.cut,
      head_bytes_per_reader: known(beside.headBytes - alone.headBytes),
      worker_bytes_per_reader: known(beside.workerBytes - alone.workerBytes),
    });
  }
  return rows;
}

/** Another target begins in each round. */
async function inRounds<R>(
  { targets, limits }: MeasureOptions,
  measure: (target: LaneTarget) => Promise<Metered<R>>,
): Promise<Rounds<R>> {
  const rounds: Rounds<R> = new Map(targets.map((target) => [target, []]));
  for (let round = 0; round < limits.rounds; round += 1) {
    for (const target of rotated(targets, round)) {
      rounds.get(target)?.push(await measure(target));
    }
  }
  return rounds;
}

async function metered<J extends Job>(
  load: Load,
  { headPid, workerPid }: LaneTarget,
  job: J,
): Promise<Metered<JobResults[J["kind"]]>> {
  const cpu = (pid: number | null) => (pid === null ? 0 : cpuMs(pid));
  const memory = (pid: number | null) => (pid === null ? 0 : residentBytes(pid));
  const before = { head: cpu(headPid), worker: cpu(workerPid) };
  const result = await load.do(job);
  return {
    result,
    headCpuMs: cpu(headPid) - before.head,
    workerCpuMs: cpu(workerPid) - before.worker,
    headBytes: memory(headPid),
    workerBytes: memory(workerPid),
  };
}

function aim({ port, headPid }: LaneTarget) {
  return { port, headers: {}, watchPid: headPid };
}

function badOf({ lost, wrong, broken }: JobResults["streams"]): number {
  return lost + wrong + broken;
}

function total<T>(items: readonly T[], figure: (item: T) => number): number {
  return items.reduce((sum, item) => sum + figure(item), 0);
}
