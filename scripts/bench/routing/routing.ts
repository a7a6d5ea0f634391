/** Which policy answers soonest: every one on every workload, in a run without timers. */

import { parseArgs } from "node:util";
import { POLICIES, type Policy } from "../../../src/cluster/routing/policies.ts";
import { createRouter } from "../../../src/cluster/routing/routing.ts";
import { SCORE_TUNING, type ScoreTuning } from "../../../src/cluster/routing/score.ts";
import type { PromptFacts } from "../../../src/protocol/replica-request.ts";
import { createSimEngine, ENGINE_MODEL } from "./engine.ts";
import { createFleet, type Fleet } from "./fleet.ts";
import { createQueue } from "./queue.ts";
import { REAL_NAME, runReal } from "./real.ts";
import {
  type Conversation,
  madeWorkloads,
  promptAt,
  readTrace,
  seeded,
  type Workload,
} from "./workloads.ts";
import { type Cell, table } from "../table.ts";

export const ROUTING_USAGE = `scripts/run.sh bench routing [options]

  --quick                  a minute of each workload in place of ten
  --trace <file>           a trace to replay, JSON lines; default: a small made one
  --trace-speed <n>        how much faster than it was recorded
  --policy <name,...>      which policies; default: all
  --workload <text>        only workloads with this in their name
  --g <s>, --k <n>         how the parts of the score are weighed
  --seed <n>               of the made workloads
  --json <file>            writes all figures there
  --real                   beside it, one workload with real processes at true speed
  --binary <file>          the llmnode for that; default: of this tree, built if stale`;

export interface RoutingOptions {
  seconds: number;
  trace: string;
  traceSpeed: number;
  policies: readonly Policy[];
  workload: string;
  tuning: ScoreTuning;
  seed: number;
  json: string | null;
  real: boolean;
  binary: string | null;
}

const REAL_SECONDS = 30;
const SMALL_TRACE = `${import.meta.dir}/trace.jsonl`;

/** Throws on anything that it does not understand. */
export function readRoutingOptions(args: string[]): RoutingOptions {
  const { values } = parseArgs({
    args,
    options: {
      quick: { type: "boolean", default: false },
      trace: { type: "string", default: SMALL_TRACE },
      "trace-speed": { type: "string", default: "3" },
      policy: { type: "string" },
      workload: { type: "string", default: "" },
      g: { type: "string", default: String(SCORE_TUNING.g) },
      k: { type: "string", default: String(SCORE_TUNING.k) },
      seed: { type: "string", default: "1" },
      json: { type: "string" },
      real: { type: "boolean", default: false },
      binary: { type: "string" },
    },
  });
  return {
    seconds: values.quick ? 60 : 600,
    trace: values.trace,
    traceSpeed: figure("trace-speed", values["trace-speed"], 0.001),
    policies: values.policy?.split(",").map(policyNamed) ?? POLICIES,
    workload: values.workload,
    tuning: { g: figure("g", values.g), k: figure("k", values.k) },
    seed: figure("seed", values.seed),
    json: values.json ?? null,
    real: values.real,
    binary: values.binary ?? null,
  };
}

function policyNamed(name: string): Policy {
  const found = POLICIES.find((policy) => policy === name);
  if (found === undefined) throw new Error(`--policy: "${name}" is none of ${POLICIES.join(", ")}`);
  return found;
}

function figure(name: string, text: string, least = 0): number {
  const n = Number(text);
  if (Number.isFinite(n) && n >= least && text !== "") return n;
  throw new Error(`--${name}: "${text}" is no number`);
}

export interface RoutingResult {
  workload: string;
  policy: Policy;
  requests: number;
  meanTtftS: number;
  p90TtftS: number;
  /** Of all prompt tokens, those that an engine had in its cache. */
  hitRate: number;
  /** The busiest engine's time at work, by the mean. */
  imbalance: number;
}

export async function runRouting(options: RoutingOptions, signal: AbortSignal): Promise<void> {
  const { seconds, seed, traceSpeed } = options;
  const workloads = [
    ...madeWorkloads(seconds, seed),
    readTrace(options.trace, { speed: traceSpeed }),
  ].filter(({ name }) => name.includes(options.workload));
  const results: RoutingResult[] = [];
  for (const workload of workloads) {
    for (const policy of options.policies) {
      signal.throwIfAborted();
      results.push(replay(workload, policy, options));
      // Lets a signal in.
      await Bun.sleep(0);
    }
    const rows = results.filter((result) => result.workload === workload.name);
    process.stdout.write(`${report(workload.name, rows)}\n\n`);
  }
  if (options.real) {
    const real = await runReal({ ...options, seconds: REAL_SECONDS }, signal);
    const rows = real.map(({ ttftS, ...result }) => ({
      ...result,
      ...ttftFigures(ttftS),
      workload: REAL_NAME,
    }));
    results.push(...rows);
    process.stdout.write(`${report(REAL_NAME, rows)}\n`);
  }
  if (options.json !== null) await Bun.write(options.json, JSON.stringify(results, null, 2));
}

function report(name: string, rows: readonly RoutingResult[]): string {
  const header = ["policy", "mean TTFT s", "p90 TTFT s", "hit rate", "imbalance"];
  const cells = rows.map((row): Cell[] => [
    row.policy,
    row.meanTtftS,
    row.p90TtftS,
    row.hitRate,
    row.imbalance,
  ]);
  return `${name}: ${rows[0]?.requests ?? 0} requests\n${table(header, cells)}`;
}

/** One workload under one policy; the same figures on every machine. */
export function replay(
  workload: Workload,
  policy: Policy,
  { tuning, seed }: { tuning: ScoreTuning; seed: number },
): RoutingResult {
  const random = seeded(seed);
  const fleet = createFleet(workload.speeds.length, createRouter({ policy, tuning }));
  const run = createRun(workload, fleet, random);
  run.toTheEnd();
  const busy = run.engines.map((engine) => engine.busyS);
  const mean = busy.reduce((sum, s) => sum + s, 0) / busy.length;
  return {
    workload: workload.name,
    policy,
    ...ttftFigures(run.ttfts),
    hitRate: run.cachedTokens() / run.promptTokens(),
    imbalance: Math.max(...busy) / mean,
  };
}

function ttftFigures(seconds: readonly number[]) {
  const sorted = seconds.toSorted((a, b) => a - b);
  return {
    requests: sorted.length,
    meanTtftS: sorted.reduce((sum, s) => sum + s, 0) / sorted.length,
    p90TtftS: sorted[Math.floor(sorted.length * 0.9)] ?? Number.NaN,
  };
}

function createRun(workload: Workload, fleet: Fleet, random: () => number) {
  const { blockTokens } = workload;
  const engines = workload.speeds.map((speed) =>
    createSimEngine({
      ...ENGINE_MODEL,
      blockTokens,
      prefillTokensPerS: ENGINE_MODEL.prefillTokensPerS * speed,
    }),
  );
  const queue = createQueue();
  const ttfts: number[] = [];
  let cached = 0;
  let asked = 0;

  const step = (at: number, index: number) => {
    const engine = engines[index];
    const took = engine?.begin() ?? null;
    if (took === null) return;
    queue.add(at + took, (now) => {
      engine?.finish(now);
      step(now, index);
    });
  };
  const ask = (now: number, conversation: Conversation, turn: number) => {
    const { outTokens = 1 } = conversation.turns[turn] ?? {};
    const { prompt, messageEnds } = promptAt(conversation, turn, blockTokens);
    const facts = factsOf(prompt, { messageEnds, blockTokens });
    const session = `conversation ${conversation.id}`;
    const placed = fleet.place({ prompt: facts, session }, { now: now * 1000, random });
    let cachedTokens = 0;
    const idle = engines[placed.engine]?.add({
      prompt,
      outTokens,
      onFirstToken(at, hit) {
        cachedTokens = hit;
        ttfts.push(at - now);
        asked += prompt.tokens;
        cached += hit;
        placed.started(at * 1000);
      },
      onDone(at) {
        placed.ended(at * 1000, { promptTokens: prompt.tokens, cachedTokens });
        const next = conversation.turns[turn + 1];
        if (next) queue.add(at + next.thinkS, (later) => ask(later, conversation, turn + 1));
      },
    });
    if (idle === true) step(now, placed.engine);
  };
  for (const conversation of workload.conversations) {
    queue.add(conversation.startS, (now) => ask(now, conversation, 0));
  }
  return {
    engines,
    ttfts,
    cachedTokens: () => cached,
    promptTokens: () => asked,
    toTheEnd: () => queue.run(),
  };
}

/** As `proxy/request/chain.ts` cuts prompts: at fixed offsets, and at the ends of messages. */
function factsOf(
  { tokens, blocks }: { tokens: number; blocks: readonly number[] },
  { messageEnds, blockTokens }: { messageEnds: readonly number[]; blockTokens: number },
): PromptFacts {
  const cuts = new Set(messageEnds);
  for (let at = FIRST_CUT_TOKENS; at < tokens; at *= CUT_GROWTH) cuts.add(Math.round(at));
  const ends = [...cuts]
    .filter((at) => at <= tokens)
    .sort((a, b) => a - b)
    .slice(-128);
  const hashes = new Uint32Array(ends.length * 2);
  for (const [i, end] of ends.entries()) {
    const block = blocks[Math.ceil(end / blockTokens) - 1] ?? 0;
    hashes[i * 2] = mix(block % 2 ** 32, end);
    hashes[i * 2 + 1] = mix(end + Math.floor(block / 2 ** 32), block % 2 ** 32);
  }
  return {
    bytes: tokens * BYTES_PER_TOKEN,
    hashes,
    ends: Uint32Array.from(ends, (end) => end * BYTES_PER_TOKEN),
    maxTokens: null,
  };
}

const BYTES_PER_TOKEN = 4;
const FIRST_CUT_TOKENS = 64;
const CUT_GROWTH = 2 ** (1 / 8);

function mix(a: number, b: number): number {
  let mixed = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0x2c1b3c6d);
  return (mixed ^ (mixed >>> 13)) >>> 0;
}
