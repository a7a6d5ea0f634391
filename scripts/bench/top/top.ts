/** `scripts/run.sh bench top`: what `llmnode top` costs, for few and for many workers. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Children, createChildren } from "../children.ts";
import { type Cell, table } from "../table.ts";
import { builtBinary } from "../targets.ts";
import { measurePty, type PtyFigures } from "./pty.ts";
import type { HeadMode } from "./head.ts";
import { measureStall } from "./stall.ts";

export const TOP_USAGE = `scripts/run.sh bench top [options]

  --quick                  5 s a case instead of 20 s
  --binary <file>          the llmnode to measure; default: of this tree, built if stale
  --workers <n,n,...>      default: 8,200,1000`;

export interface TopOptions {
  quick: boolean;
  binary: string | null;
  workers: number[];
}

/** Throws on anything that it does not understand. */
export function readTopOptions(args: string[]): TopOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      binary: { type: "string" },
      workers: { type: "string", default: "8,200,1000" },
    },
  });
  const workers = values.workers.split(",").map(Number);
  if (workers.length === 0 || !workers.every((n) => Number.isInteger(n) && n > 0 && n <= 10_000)) {
    throw new Error("--workers must be numbers from 1 to 10000, such as 8,200");
  }
  return { quick: values.quick, binary: values.binary ?? null, workers };
}

const SIZES = [
  { columns: 80, rows: 24 },
  { columns: 160, rows: 45 },
] as const;
const WARM_UP_MS = 3000;

/** Upper limits. Source: the targets of the product's design, at one frame a second. */
const LIMITS = {
  cpuPercent: { 80: 4, 160: 6 },
  bytesPerS: { 80: 1024, 160: 5 * 1024 },
  idleCpuPercent: 1.5,
  idleBytesPerS: 100,
  residentMb: 120,
  keyP95Ms: 50,
  stallLagMs: 100,
  afterStallMs: 1000,
} as const;

const HEADER = [
  "case",
  "size",
  "cpu %",
  "bytes/s",
  "rss MB",
  "key p95 ms",
  "first ms",
  "clears",
  "over",
];

export async function runTopBench(options: TopOptions, signal: AbortSignal): Promise<void> {
  const binary = options.binary === null ? await builtBinary() : resolve(options.binary);
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-bench-top-"));
  const windowMs = options.quick ? 5000 : 20_000;
  try {
    await using children = createChildren();
    const run = { binary, children, workplace, windowMs, signal };
    const rows: Cell[][] = [];
    const add = (row: Cell[]) => {
      rows.push(row);
      process.stderr.write(`${row.join("  ")}\n`);
    };
    for (const workers of options.workers) {
      for (const mode of ["changing", "still"] as const) {
        for (const size of SIZES) add(await oneCase(run, { workers, mode, size, keys: "" }));
      }
    }
    const most = Math.max(...options.workers);
    for (const size of SIZES) {
      add(await oneCase(run, { workers: most, mode: "changing", size, keys: "z" }));
    }
    for (const size of SIZES) {
      add(
        rowOf("procps top -d 1", size, await ownPty(run, { argv: ["top", "-d", "1"], size }), []),
      );
    }
    process.stdout.write(`${table(HEADER, rows)}\n\n`);
    const stall = await measureStall({ ...run, stallMs: options.quick ? 5000 : 60_000 });
    process.stdout.write(
      `terminal stopped ${stall.stoppedMs / 1000} s: ${stall.answers} questions answered, the slowest after ` +
        `${stall.slowestMs.toFixed(0)} ms (limit ${LIMITS.stallLagMs}), ${stall.missed} not; ` +
        `right screen ${stall.rightAfterMs === null ? "never" : `${stall.rightAfterMs.toFixed(0)} ms`} after ` +
        `(limit ${LIMITS.afterStallMs})\n`,
    );
  } finally {
    rmSync(workplace, { recursive: true, force: true });
  }
}

interface Run {
  binary: string;
  children: Children;
  workplace: string;
  windowMs: number;
  signal: AbortSignal;
}

interface Case {
  workers: number;
  mode: HeadMode;
  size: (typeof SIZES)[number];
  keys: string;
}

async function startHead({ children, workplace }: Run, workers: number, mode: HeadMode) {
  const child = children.start({
    name: "head",
    argv: [process.execPath, join(import.meta.dir, "head.ts"), String(workers), mode],
    place: "rest",
    cwd: workplace,
  });
  const [, url = ""] = await child.line(/head at (\S+)/);
  return { child, url };
}

async function oneCase(run: Run, { workers, mode, size, keys }: Case): Promise<Cell[]> {
  const { child, url } = await startHead(run, workers, mode);
  try {
    const argv = [run.binary, "top", "--head", url, "--interval", "1s"];
    const presses = Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? "j" : "k"));
    const isIdle = keys !== "" || mode === "still";
    const figures = await ownPty(run, { argv, size, keys, presses: keys === "" ? presses : [] });
    const name = `${workers} workers, ${keys === "" ? mode : "frozen"}`;
    return rowOf(name, size, figures, over(figures, size.columns, isIdle));
  } finally {
    await child.stop();
  }
}

async function ownPty(
  { windowMs, signal }: Run,
  how: { argv: string[]; size: (typeof SIZES)[number]; keys?: string; presses?: string[] },
): Promise<PtyFigures> {
  const { argv, size, keys = "", presses = [] } = how;
  const typed = keys === "" ? {} : { keys };
  return await measurePty({
    argv,
    ...size,
    warmUpMs: WARM_UP_MS,
    windowMs,
    presses,
    signal,
    ...typed,
  });
}

function rowOf(
  name: string,
  { columns, rows }: (typeof SIZES)[number],
  figures: PtyFigures,
  problems: readonly string[],
): Cell[] {
  const { cpuPercent, bytesPerS, residentMb, keyP95Ms, firstPaintMs, clears } = figures;
  const rest = [cpuPercent, Math.round(bytesPerS), Math.round(residentMb), keyP95Ms];
  return [
    name,
    `${columns}x${rows}`,
    ...rest,
    Math.round(firstPaintMs),
    clears,
    problems.join(" "),
  ];
}

function over(figures: PtyFigures, columns: 80 | 160, isIdle: boolean): string[] {
  const { cpuPercent, bytesPerS, residentMb, keyP95Ms, clears } = figures;
  return [
    cpuPercent > (isIdle ? LIMITS.idleCpuPercent : LIMITS.cpuPercent[columns]) ? "cpu" : "",
    bytesPerS > (isIdle ? LIMITS.idleBytesPerS : LIMITS.bytesPerS[columns]) ? "bytes" : "",
    residentMb > LIMITS.residentMb ? "rss" : "",
    (keyP95Ms ?? 0) > LIMITS.keyP95Ms ? "key" : "",
    clears > 0 ? "clears" : "",
  ].filter((word) => word !== "");
}
