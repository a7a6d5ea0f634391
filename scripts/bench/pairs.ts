/** Two binaries beside each other, in alternation: what a change costs or saves on the data path. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createChildren } from "./children.ts";
import { type Load, startLoad } from "./load/load.ts";
import { median } from "./stats.ts";
import { type Cell, table } from "./table.ts";
import { builtBinary, startEngine, startLlmnode, type Target, untilAnswers } from "./targets.ts";

export const PAIRS_USAGE = `scripts/run.sh bench pairs --old <file> [options]

  --old <file>     the llmnode to compare with
  --new <file>     default: of this tree, built if stale
  --pairs <n>      how often both are measured, one after the other (8)`;

interface PairsOptions {
  old: string;
  new: string | null;
  pairs: number;
}

/** Throws on anything that it does not understand. */
export function readPairsOptions(args: string[]): PairsOptions {
  const { values } = parseArgs({
    args,
    options: {
      old: { type: "string" },
      new: { type: "string" },
      pairs: { type: "string", default: "8" },
    },
  });
  const pairs = Number(values.pairs);
  if (values.old === undefined) throw new Error("--old FILE is needed");
  if (!Number.isInteger(pairs) || pairs < 1 || pairs > 1000) {
    throw new Error(`--pairs: "${values.pairs}" is no number from 1 to 1000`);
  }
  return { old: values.old, new: values.new ?? null, pairs };
}

interface Figure {
  name: string;
  /** Microseconds of processor time of the head's process for one request or event. */
  measure(load: Load, target: Target): Promise<number>;
}

const FIGURES: readonly Figure[] = [
  {
    name: "us CPU a request, 2 KB, 64 at a time",
    async measure(load, { port, headers, pid }) {
      const on = { port, headers, watchPid: pid, bodyBytes: 2048, concurrency: 64 };
      const job = { kind: "requests", ...on, durationMs: 3000 } as const;
      const { cpuMs, requests, errors } = await load.do(job);
      if (errors > 0) throw new Error(`${errors} requests failed`);
      return ((cpuMs ?? Number.NaN) * 1000) / requests;
    },
  },
  {
    name: "us CPU a stream event, 500 streams at 20/s",
    async measure(load, { port, headers, pid }) {
      const on = { port, headers, watchPid: pid, streams: 500, rate: 20 };
      const times = { rampMs: 1000, windowMs: 4000 };
      const { cpuMs, windowEvents, ...bad } = await load.do({ kind: "streams", ...on, ...times });
      const faults = bad.lost + bad.wrong + bad.broken;
      if (faults > 0) throw new Error(`${faults} frames or streams were lost or wrong`);
      return ((cpuMs ?? Number.NaN) * 1000) / windowEvents;
    },
  },
];

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
    const start = async (name: "old" | "new") => {
      const on = { children, workplace, enginePort, binary: binaries[name], name };
      const target = await startLlmnode(on);
      await untilAnswers(target, children);
      return target;
    };
    const targets = [await start("old"), await start("new")] as const;
    const load = await startLoad(children, workplace);
    const rows: Cell[][] = [];
    for (const figure of FIGURES) {
      // Both are warm before the first pair counts.
      for (const target of targets) await figure.measure(load, target);
      const pairs: { old: number; new: number }[] = [];
      for (let n = 0; n < options.pairs; n += 1) {
        // What comes first changes from pair to pair, so that it favours neither.
        const order = n % 2 === 0 ? targets : [targets[1], targets[0]];
        const found: number[] = [];
        for (const target of order) found.push(await figure.measure(load, target));
        const [first = Number.NaN, second = Number.NaN] = found;
        pairs.push(n % 2 === 0 ? { old: first, new: second } : { old: second, new: first });
        process.stderr.write(`${figure.name}: pair ${n + 1} of ${options.pairs}\n`);
      }
      rows.push(rowOf(figure.name, pairs));
    }
    const header = ["figure", "old", "new", "new/old", "lowest", "highest"];
    process.stdout.write(`${table(header, rows)}\n`);
  };
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason));
  await Promise.race([work(), children.trouble, aborted]);
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
