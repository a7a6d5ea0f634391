/** Hours of drills in random order, and whether the memory of those who live through them grows. */

import { readFileSync } from "node:fs";
import { descriptors, residentBytes } from "../bench/proc.ts";
import type { Cluster } from "./cluster.ts";
import { DRILLS } from "./faults.ts";
import type { DrillOptions } from "./options.ts";
import { runDrill, type Result } from "./run.ts";
import { randomFrom, slopePerHour } from "./tally.ts";

const LINE_EVERY_MS = 60_000;

/**
 * The first part fills caches and pools and does not count for the slope. The head is restarted in
 * that part only: one that begins anew again and again would hide its growth.
 */
const WARM_SHARE = 0.25;
const HEAD_DRILL = "head-restart";

export interface Measured {
  atMs: number;
  headBytes: number;
  headDescriptors: number;
  workerBytes: number;
}

export interface Soaked {
  results: Result[];
  measured: Measured[];
  /** Of the head's memory: its slope, and what that makes over the time that was looked at. */
  headGrowth: Growth;
  failures: string[];
}

export async function soak(
  cluster: Cluster,
  { options, soakMs, say, signal }: SoakContext,
): Promise<Soaked> {
  const began = performance.now();
  const random = randomFrom(options.seed);
  const results: Result[] = [];
  const measured: Measured[] = [];
  const failures: string[] = [];
  const look = () => {
    const point = measure(cluster, performance.now() - began);
    measured.push(point);
    say(lineOf(point, results));
  };
  const timer = setInterval(look, LINE_EVERY_MS);
  try {
    while (performance.now() - began < soakMs) {
      for (const drill of shuffled(options.only, random)) {
        const elapsed = performance.now() - began;
        if (elapsed >= soakMs) break;
        if (drill.name === HEAD_DRILL && elapsed > soakMs * WARM_SHARE) continue;
        const seed = options.seed + results.length + 1;
        const result = await runDrill(drill, cluster, { options, seed, signal });
        results.push(result);
        for (const failure of result.failures) {
          failures.push(`${drill.name} (seed ${seed}): ${failure}`);
          say(`FAIL ${drill.name} (seed ${seed}): ${failure}`);
        }
      }
    }
  } finally {
    clearInterval(timer);
  }
  look();
  const headGrowth = growthOf(measured);
  if (headGrowth.bytes > options.growthBytes) {
    failures.push(`the head grew by ${mib(headGrowth.bytes)} MiB`);
  }
  return { results, measured, headGrowth, failures };
}

export interface SoakContext {
  options: DrillOptions;
  soakMs: number;
  say: (line: string) => void;
  signal: AbortSignal;
}

export interface Growth {
  bytesPerHour: number;
  bytes: number;
}

/** Once it is warm; a slope, so that one high reading at an end means little. */
export function growthOf(measured: ReadonlyArray<Pick<Measured, "atMs" | "headBytes">>): Growth {
  const last = measured.at(-1)?.atMs ?? 0;
  const settled = measured.filter(({ atMs }) => atMs >= last * WARM_SHARE);
  const points = settled.map(({ atMs, headBytes }) => ({ atMs, value: headBytes }));
  const bytesPerHour = slopePerHour(points);
  const span = last - (settled[0]?.atMs ?? last);
  return { bytesPerHour, bytes: (bytesPerHour * span) / 3_600_000 };
}

function measure(cluster: Cluster, atMs: number): Measured {
  const workers = cluster.names.map((name) => ownBytes(cluster.workerPid(name)));
  const head = cluster.headPid();
  return {
    atMs,
    headBytes: residentBytes(head),
    headDescriptors: countOf(head),
    workerBytes: Math.max(0, ...workers),
  };
}

function lineOf(point: Measured, results: readonly Result[]): string {
  const sum = (read: (result: Result) => number) =>
    results.reduce((total, result) => total + read(result), 0);
  return [
    `${Math.round(point.atMs / 60_000)} min`,
    `${results.length} drills`,
    `${sum(({ row }) => row.requests)} requests`,
    `${sum(({ row }) => row.errors)} errors`,
    `${sum(({ row }) => row.hung)} hung`,
    `head ${mib(point.headBytes)} MiB, ${point.headDescriptors} fds`,
    `largest worker ${mib(point.workerBytes)} MiB`,
  ].join("  ");
}

/** Without its engine, which is a child of it. */
function ownBytes(pid: number): number {
  const engines = read(`/proc/${pid}/task/${pid}/children`).split(" ").filter(Boolean).map(Number);
  return engines.reduce((sum, engine) => sum - residentBytes(engine), residentBytes(pid));
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}

/** 0 for a process that is just gone. */
function countOf(pid: number): number {
  try {
    return descriptors(pid);
  } catch {
    return 0;
  }
}

function mib(bytes: number): string {
  return (bytes / 1024 ** 2).toFixed(1);
}

function shuffled(names: readonly string[], random: () => number) {
  const left = DRILLS.filter(({ name }) => names.includes(name));
  const order = [];
  while (left.length > 0) order.push(...left.splice(Math.floor(random() * left.length), 1));
  return order;
}
