/** Two binaries beside each other, in alternation: what a change costs or saves on the data path. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createChildren } from "./children.ts";
import { type Load, startLoad } from "./load/load.ts";
import { median } from "./stats.ts";
import { type Cell, table } from "./table.ts";
import {
  aimAt,
  builtBinary,
  startEngine,
  startLlmnode,
  type Target,
  untilAnswers,
} from "./targets.ts";
import { type WarmUp, warmUp } from "./warm-up.ts";

export const PAIRS_USAGE = `scripts/run.sh bench pairs --old <file> [options]

  --old <file>     the llmnode to compare with
  --new <file>     default: of this tree, built if stale
  --pairs <n>      how often both are measured, one after the other (8)
  --only <figure>  request, upload, event, lane-request or lane-event; may be repeated
  --quick          4 pairs, each figure a third as long`;

interface PairsOptions {
  old: string;
  new: string | null;
  pairs: number;
  only: readonly string[];
  isQuick: boolean;
}

/** Throws on anything that it does not understand. */
export function readPairsOptions(args: string[]): PairsOptions {
  const { values } = parseArgs({
    args,
    options: {
      old: { type: "string" },
      new: { type: "string" },
      pairs: { type: "string" },
      only: { type: "string", multiple: true, default: [] },
      quick: { type: "boolean", default: false },
    },
  });
  const pairs = Number(values.pairs ?? (values.quick ? 4 : 8));
  if (values.old === undefined) throw new Error("--old FILE is needed");
  if (!Number.isInteger(pairs) || pairs < 1 || pairs > 1000) {
    throw new Error(`--pairs: "${values.pairs}" is no number from 1 to 1000`);
  }
  const unknown = values.only.find((name) => !FIGURES.some((figure) => figure.key === name));
  if (unknown !== undefined) {
    throw new Error(`--only is one of ${FIGURES.map(({ key }) => key).join(", ")}`);
  }
  const { old, only, quick: isQuick } = values;
  return { old, new: values.new ?? null, pairs, only, isQuick };
}

type Transport = "direct" | "lane";

interface Figure {
  key: string;
  name: string;
  transport: Transport;
  /** Microseconds of processor time of the head's process for one request or event. */
  measure(on: { load: Load; target: Target; ms: number }): Promise<number>;
}

const FIGURES: readonly Figure[] = [
  ...figuresOver("direct"),
  {
    key: "upload",
    name: "us CPU a request, 1 MB, 8 at a time",
    transport: "direct",
    measure: requestCost({ bodyBytes: 1024 * 1024, concurrency: 8 }),
  },
  ...figuresOver("lane"),
];

function figuresOver(transport: Transport): Figure[] {
  const key = transport === "lane" ? "lane-" : "";
  const name = transport === "lane" ? " over a lane" : "";
  return [
    {
      key: `${key}request`,
      name: `us CPU a request${name}, 2 KB, 64 at a time`,
      transport,
      measure: requestCost({ bodyBytes: 2048, concurrency: 64 }),
    },
    {
      key: `${key}event`,
      name: `us CPU a stream event${name}, 500 streams at 20/s`,
      transport,
      measure: eventCost,
    },
  ];
}

function requestCost(shape: { bodyBytes: number; concurrency: number }): Figure["measure"] {
  return async ({ load, target, ms }) => {
    const on = { ...aimAt(target), ...shape, durationMs: ms };
    const { cpuMs, requests, errors } = await load.do({ kind: "requests", ...on });
    if (errors > 0) throw new Error(`${errors} requests failed`);
    return ((cpuMs ?? Number.NaN) * 1000) / requests;
  };
}

async function eventCost({ load, target, ms }: Parameters<Figure["measure"]>[0]): Promise<number> {
  const shape = { streams: 500, rate: 20, rampMs: 1000, windowMs: ms };
  const job = { ...aimAt(target), ...shape, kind: "streams" } as const;
  const { cpuMs, windowEvents, ...bad } = await load.do(job);
  const faults = bad.lost + bad.wrong + bad.broken;
  if (faults > 0) throw new Error(`${faults} frames or streams were lost or wrong`);
  return ((cpuMs ?? Number.NaN) * 1000) / windowEvents;
}

const FIGURE_MS = 3000;
/** Both are warm before the first pair counts. */
const WARM_UP: WarmUp = { requests: 60_000, limitMs: 20_000 };
const QUICK_WARM_UP: WarmUp = { requests: 10_000, limitMs: 8000 };

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runPairs(options: PairsOptions, signal: AbortSignal): Promise<void> {
  const binaries = {
    old: resolve(options.old),
    new: options.new === null ? await builtBinary() : resolve(options.new),
  };
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(workplace, { recursive: true, force: true }));
  const children = stack.use(createChildren());
  const work = async () => {
    const enginePort = await startEngine(children, workplace);
    const load = await startLoad(children, workplace);
    const rows: Cell[][] = [];
    for (const transport of ["direct", "lane"] as const) {
      const figures = FIGURES.filter(({ key, transport: its }) => {
        return its === transport && (options.only.length === 0 || options.only.includes(key));
      });
      if (figures.length === 0) continue;
      const start = async (name: "old" | "new") => {
        const on = { children, workplace, enginePort, binary: binaries[name], name, transport };
        const target = await startLlmnode(on);
        await untilAnswers(target, children);
        return target;
      };
      const targets = [await start("old"), await start("new")] as const;
      const warmed = targets.map((target) => ({ name: target.name, aim: aimAt(target) }));
      const plan = options.isQuick ? QUICK_WARM_UP : WARM_UP;
      await warmUp({ load, targets: warmed, say }, plan);
      for (const figure of figures) {
        rows.push(rowOf(figure.name, await measurePairs(figure, { ...options, load, targets })));
      }
    }
    const header = ["figure", "old", "new", "new/old", "lowest", "highest"];
    process.stdout.write(`${table(header, rows)}\n`);
  };
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason));
  await Promise.race([work(), children.trouble, aborted]);
}

async function measurePairs(
  figure: Figure,
  on: { load: Load; targets: readonly [Target, Target]; pairs: number; isQuick: boolean },
): Promise<Array<{ old: number; new: number }>> {
  const ms = on.isQuick ? FIGURE_MS / 3 : FIGURE_MS;
  const measure = (target: Target) => figure.measure({ load: on.load, target, ms });
  // One each for the code that the warm-up does not reach.
  for (const target of on.targets) await measure(target);
  const pairs: { old: number; new: number }[] = [];
  for (let n = 0; n < on.pairs; n += 1) {
    // What comes first changes from pair to pair, so that it favours neither.
    const order = n % 2 === 0 ? on.targets : [on.targets[1], on.targets[0]];
    const found: number[] = [];
    for (const target of order) found.push(await measure(target));
    const [first = Number.NaN, second = Number.NaN] = found;
    pairs.push(n % 2 === 0 ? { old: first, new: second } : { old: second, new: first });
    say(`${figure.name}: pair ${n + 1} of ${on.pairs}`);
  }
  return pairs;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The medians of both, and of the ratios of each pair with their spread. */
export function rowOf(name: string, pairs: readonly { old: number; new: number }[]): Cell[] {
  const ratios = pairs.map((pair) => pair.new / pair.old);
  return [
    name,
    median(pairs.map((pair) => pair.old)),
    median(pairs.map((pair) => pair.new)),
    median(ratios),
    Math.min(...ratios),
    Math.max(...ratios),
  ];
}
