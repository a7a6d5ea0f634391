/** What API keys cost: looking one up among many, and what bad ones do to good clients. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Children, createChildren } from "../children.ts";
import type { RequestsResult } from "../jobs.ts";
import { lookUp, type LookUpFigures } from "./lookup.ts";
import { startLoad } from "../load/load.ts";
import { histogram, median } from "../stats.ts";
import { table } from "../table.ts";
import { builtBinary, startKeyed, type Target } from "../targets.ts";

export const KEYS_USAGE = `scripts/run.sh bench keys [options]

  --quick                  shorter
  --keys <n>               how many there are; default 100000
  --flood <n,...>          connections with bad keys; default 64,512
  --binary <file>          the llmnode to measure; default: of this tree, built if stale
  --json <file>            writes all figures there
                           (with and without keys: scripts/run.sh bench front --keys)`;

interface KeysOptions {
  keys: number;
  floods: readonly number[];
  rounds: number;
  sliceMs: number;
  binary: string | null;
  json: string | null;
}

/** Throws on anything that it does not understand. */
export function readKeysOptions(args: string[]): KeysOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      keys: { type: "string", default: "100000" },
      flood: { type: "string", default: "64,512" },
      binary: { type: "string" },
      json: { type: "string" },
    },
  });
  return {
    keys: whole("keys", values.keys, 200_000),
    floods: values.flood.split(",").map((text) => whole("flood", text, 4096)),
    rounds: values.quick ? 3 : 5,
    sliceMs: values.quick ? 500 : 2000,
    binary: values.binary ?? null,
    json: values.json ?? null,
  };
}

function whole(name: string, text: string, max: number): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= max) return n;
  throw new Error(`--${name}: "${text}" is no whole number from 1 to ${max}`);
}

interface FloodRow {
  connections: number;
  bad_per_s: number;
  /** Of them, those that were answered at once that there are too many. */
  refused_share: number;
  good_per_s: number;
  p50_us: number;
  p99_us: number;
  /** To the p99 of the same round without a flood. */
  p99_ratio: number;
  errors: number;
}

interface Slice extends RequestsResult {
  p50: number;
  p99: number;
}

interface Round {
  calm: Slice;
  beset: Slice;
  bad: number;
  refused: number;
}

/** Everything that it starts has ended when it settles; rejects when `signal` aborts. */
export async function runKeys(options: KeysOptions, signal: AbortSignal): Promise<void> {
  const workplace = mkdtempSync(join(tmpdir(), "llmnode-bench-"));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => rmSync(workplace, { recursive: true, force: true }));
  const children = stack.use(createChildren());
  const work = async () => {
    say(`looking up one of ${options.keys} keys`);
    const found = await lookUp({ dir: workplace, keys: options.keys, rounds: options.rounds });
    signal.throwIfAborted();
    const floods = await measureFloods(options, { children, workplace });
    process.stdout.write(report(found, floods));
    if (options.json === null) return;
    const text = JSON.stringify({ lookup: found, floods, pinning: children.pinning }, null, 2);
    writeFileSync(options.json, `${text}\n`);
  };
  const aborted = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => aborted.reject(signal.reason));
  await Promise.race([work(), children.trouble, aborted.promise]);
}

/** Good clients, a few at a time, with and without a flood beside them in each round. */
async function measureFloods(
  options: KeysOptions,
  { children, workplace }: { children: Children; workplace: string },
): Promise<FloodRow[]> {
  const binary = options.binary === null ? await builtBinary() : resolve(options.binary);
  const engine = children.start({
    name: "engine",
    argv: [process.execPath, join(import.meta.dir, "../engine-main.ts")],
    place: "rest",
    cwd: workplace,
  });
  const enginePort = Number((await engine.line(/engine on port (\d+)/))[1]);
  const target = await startKeyed({ children, workplace, binary, enginePort });
  const load = await startLoad(children, workplace);
  const slice = async (durationMs: number): Promise<Slice> => {
    const { port, headers, pid } = target;
    const result = await load.do({
      kind: "requests",
      ...{ port, headers, watchPid: pid, durationMs },
      ...{ bodyBytes: 2048, concurrency: 4 },
    });
    const times = histogram(result.latencies);
    return { ...result, p50: times.percentile(0.5), p99: times.percentile(0.99) };
  };
  // Until a worker is there all requests fail, or wait.
  for (let last = await slice(500); last.requests === 0;) last = await slice(500);
  await slice(options.sliceMs);
  const rows: FloodRow[] = [];
  for (const connections of options.floods) {
    say(`a flood of bad keys by ${connections} connections`);
    const rounds: Round[] = [];
    for (let round = 0; round < options.rounds; round += 1) {
      const calm = await slice(options.sliceMs);
      const flood = await startFlood(children, { target, connections, workplace });
      const before = await flood.counts();
      const beset = await slice(options.sliceMs);
      const after = await flood.counts();
      await flood.stop();
      const bad = after.all - before.all;
      rounds.push({
        calm,
        beset,
        bad,
        refused: (after.refused - before.refused) / Math.max(1, bad),
      });
    }
    const over = (figure: (round: Round) => number) => median(rounds.map(figure));
    rows.push({
      connections,
      bad_per_s: over(({ bad, beset }) => (bad / beset.elapsedMs) * 1000),
      refused_share: over(({ refused }) => refused),
      good_per_s: over(({ beset }) => (beset.requests / beset.elapsedMs) * 1000),
      p50_us: over(({ beset }) => beset.p50),
      p99_us: over(({ beset }) => beset.p99),
      p99_ratio: over(({ beset, calm }) => beset.p99 / calm.p99),
      errors: rounds.reduce((sum, { calm, beset }) => sum + calm.errors + beset.errors, 0),
    });
  }
  return rows;
}

interface FloodCounts {
  all: number;
  refused: number;
}

async function startFlood(
  children: Children,
  { target, connections, workplace }: { target: Target; connections: number; workplace: string },
): Promise<{ counts(): Promise<FloodCounts>; stop(): Promise<void> }> {
  let waiting: ((counts: FloodCounts) => void) | null = null;
  const child = children.start({
    name: "flood",
    argv: [
      process.execPath,
      join(import.meta.dir, "flood-main.ts"),
      ...[target.port, connections].map(String),
    ],
    place: "rest",
    cwd: workplace,
    onMessage(message) {
      const { counts } = message as { counts: Record<string, number> };
      const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
      waiting?.({ all, refused: counts["429"] ?? 0 });
    },
  });
  await child.line(/flood is up/);
  return {
    async counts() {
      const { promise, resolve } = Promise.withResolvers<FloodCounts>();
      waiting = resolve;
      child.send({});
      return await Promise.race([promise, children.trouble]);
    },
    stop: child.stop,
  };
}

function report(found: LookUpFigures, floods: readonly FloodRow[]): string {
  const few = `of ${found.few}`;
  const many = `of ${found.keys}`;
  const blocks = [
    `Keys (${found.keys} in ${found.store_mb.toFixed(1)} MB on disk)`,
    table(
      ["figure", "measured"],
      [
        [`look-up ${few}, us`, found.few_us],
        [`look-up ${many}, us`, found.look_up_us],
        ["an unknown key, us", found.unknown_us],
        ["taking and giving back all limits, us", found.admit_us],
        ["counting what was used, us", found.usage_us],
        ["reading all at start, ms", found.load_ms],
        ["memory, MB", found.memory_mb],
      ],
    ),
    "Bad keys at full speed, beside 4 good clients with 2 KB (times in us; ratio: to no flood)",
    table(
      ["connections", "bad/s", "of them 429", "good/s", "p50", "p99", "p99 ratio", "errors"],
      floods.map((row) => Object.values(row)),
    ),
    "Expected",
    table(
      ["expectation", "measured", "met"],
      floods.map(({ connections, p99_ratio: ratio }) => [
        `p99 of good clients at most doubles, ${connections} connections`,
        ratio.toFixed(2),
        ratio <= 2 ? "yes" : "NO",
      ]),
    ),
  ];
  return `${blocks.join("\n\n")}\n`;
}

/** To stderr: stdout is for the tables. */
function say(line: string): void {
  process.stderr.write(`${line}\n`);
}
