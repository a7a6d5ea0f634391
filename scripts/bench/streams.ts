/** Measures many streams at a time: processor time of an event, lost and late frames, memory. */

import type { FrontLimits, StreamShape } from "./front/options.ts";
import type { StreamsResult } from "./jobs.ts";
import type { Load } from "./load/load.ts";
import { eachThread, residentBytes, type ThreadTimes } from "./proc.ts";
import { rotated } from "./requests.ts";
import { histogram, median } from "./stats.ts";
import { aimAt, type Target, type TargetName } from "./targets.ts";

export interface StreamsRow {
  streams: number;
  rate: number;
  target: TargetName;
  events_per_s: number;
  cpu_us_per_event: number | null;
  threads_us_per_event: ThreadTimes | null;
  busy: number | null;
  delay_p50_us: number;
  delay_p99_us: number;
  /** The share of frames that took longer than direct's p99 of the same round. */
  late: number;
  frames: number;
  lost: number;
  wrong: number;
  broken_streams: number;
  memory_idle_bytes: number | null;
  memory_loaded_bytes: number | null;
  memory_after_bytes: number | null;
}

export interface StreamsOptions {
  load: Load;
  targets: readonly Target[];
  limits: FrontLimits;
  say: (line: string) => void;
}

export async function measureStreams(options: StreamsOptions): Promise<StreamsRow[]> {
  const { load, targets, limits, say } = options;
  const { shapes, rampMs, warmMs, windowMs, settleMs } = limits.streams;
  const run = (target: Target, shape: StreamShape, ms: number) =>
    load.do({ ...{ ...aimAt(target), ...shape, kind: "streams" }, rampMs, windowMs: ms });
  const rows: StreamsRow[] = [];
  const [first] = shapes;
  say("warm-up of streams");
  for (const target of targets) if (first !== undefined) await run(target, first, warmMs);
  for (const shape of shapes) {
    say(`${shape.streams} streams at ${shape.rate} events/s`);
    const idle = new Map(targets.map((target) => [target, memoryOf(target)]));
    const results = new Map<Target, StreamsResult[]>(targets.map((target) => [target, []]));
    for (let round = 0; round < limits.rounds; round += 1) {
      for (const target of rotated(targets, round)) {
        results.get(target)?.push(await run(target, shape, windowMs));
      }
    }
    await Bun.sleep(settleMs);
    const direct = [...results].find(([target]) => target.name === "direct")?.[1] ?? [];
    for (const [target, rounds] of results) {
      rows.push({
        ...shape,
        ...summary(target, rounds, direct),
        memory_idle_bytes: idle.get(target) ?? null,
        memory_after_bytes: memoryOf(target),
      });
    }
  }
  return rows;
}

type Summary = Omit<StreamsRow, "streams" | "rate" | "memory_idle_bytes" | "memory_after_bytes">;

function summary(
  target: Target,
  rounds: readonly StreamsResult[],
  direct: readonly StreamsResult[],
): Summary {
  const over = (figure: (result: StreamsResult, round: number) => number) =>
    median(rounds.map(figure));
  const total = (figure: (result: StreamsResult) => number) =>
    rounds.reduce((sum, result) => sum + figure(result), 0);
  const isRelay = target.pid !== null;
  const perEvent = (figureMs: (result: StreamsResult) => number) =>
    (total(figureMs) * 1000) / total(({ windowEvents }) => windowEvents);
  return {
    target: target.name,
    events_per_s: over(({ windowEvents, windowMs }) => (windowEvents / windowMs) * 1000),
    cpu_us_per_event: isRelay ? perEvent(({ cpuMs }) => cpuMs ?? 0) : null,
    threads_us_per_event: isRelay
      ? eachThread((kind) => perEvent(({ threadsMs }) => threadsMs?.[kind] ?? 0))
      : null,
    busy: isRelay ? over(({ cpuMs, windowMs }) => (cpuMs ?? 0) / windowMs) : null,
    delay_p50_us: over(({ delays }) => histogram(delays).percentile(0.5)),
    delay_p99_us: over(({ delays }) => histogram(delays).percentile(0.99)),
    late: over((result, round) => {
      const limit = histogram(direct[round]?.delays).percentile(0.99);
      return histogram(result.delays).above(limit) / result.windowEvents;
    }),
    frames: total(({ frames }) => frames),
    lost: total(({ lost }) => lost),
    wrong: total(({ wrong }) => wrong),
    broken_streams: total(({ broken }) => broken),
    memory_loaded_bytes: isRelay
      ? Math.max(...rounds.map((result) => result.residentBytes ?? 0))
      : null,
  };
}

function memoryOf({ pid }: Target): number | null {
  return pid === null ? null : residentBytes(pid);
}
