import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDecideOptions } from "../../scripts/bench/decide.ts";
import { createSimEngine, ENGINE_MODEL } from "../../scripts/bench/routing/engine.ts";
import { readRoutingOptions, replay } from "../../scripts/bench/routing/routing.ts";
import {
  type Conversation,
  madeWorkloads,
  promptAt,
  readTrace,
} from "../../scripts/bench/routing/workloads.ts";
import { SCORE_TUNING } from "../../src/cluster/routing/score.ts";
import { tempDir } from "../helpers/temp.ts";

const options = { tuning: SCORE_TUNING, seed: 1 };
const SMALL_TRACE = join(import.meta.dir, "../../scripts/bench/routing/trace.jsonl");

test("a run is the same every time, and every policy answers all that is asked", () => {
  const trace = readTrace(SMALL_TRACE, { speed: 3 });
  const first = replay(trace, "auto", options);
  expect(replay(trace, "auto", options)).toEqual(first);
  expect(first.requests).toBe(trace.conversations.length);
  expect(first.hitRate).toBeWithin(0.01, 1);
  expect(replay(trace, "sticky", options).requests).toBe(first.requests);
});

test("where prompts are shared and engines are short, the score is ahead; elsewhere not behind", () => {
  const ttft = new Map<string, Record<string, number>>();
  for (const workload of madeWorkloads(60, 1)) {
    const of = (policy: "auto" | "least-load" | "round-robin") =>
      replay(workload, policy, options).meanTtftS;
    const figures = { auto: of("auto"), least: of("least-load"), robin: of("round-robin") };
    ttft.set(workload.name, figures);
    expect(figures.auto).toBeLessThan(Math.min(figures.least, figures.robin) + 0.15);
  }
  const { auto = 0, least = 0, robin = 0 } = ttft.get("150 tenants, 6k prefix each") ?? {};
  expect(auto * 10).toBeLessThan(Math.min(least, robin));
});

test("an engine reads what is not cached, in chunks, and forgets what was not used longest", () => {
  const engine = createSimEngine({
    ...ENGINE_MODEL,
    prefillTokensPerS: 1000,
    chunkTokens: 100,
    blockTokens: 10,
    kvTokens: 60,
    stepS: 0,
    stepPerStreamS: 0,
  });
  let now = 0;
  const cachedOf = (blocks: number[]): number => {
    let cached = -1;
    const job = {
      prompt: { tokens: blocks.length * 10, blocks },
      outTokens: 3,
      onFirstToken: (_: number, hit: number) => void (cached = hit),
      onDone() {},
    };
    expect(engine.add(job)).toBe(true);
    for (let took = engine.begin(); took !== null; took = engine.begin()) {
      now += took;
      engine.finish(now);
    }
    return cached;
  };
  expect(cachedOf([1, 2, 3])).toBe(0);
  expect(now).toBeCloseTo(0.03, 9);
  expect(cachedOf([1, 2, 9])).toBe(20);
  expect(cachedOf([1, 2, 3])).toBe(29);
  expect(cachedOf([4, 5, 6, 7, 8])).toBe(0);
  expect(cachedOf([1, 2, 3])).toBe(10);
});

test("a conversation's prompt begins with the one of its turn before", () => {
  const turn = { userTokens: 100, outTokens: 50, thinkS: 1 };
  const turns = [turn, turn, turn];
  const conversation: Conversation = { startS: 0, id: 3, shared: { id: 7, tokens: 130 }, turns };
  const [first, next] = [0, 1].map((at) => promptAt(conversation, at, 64));
  expect([first?.prompt.tokens, next?.prompt.tokens]).toEqual([230, 380]);
  expect(next?.messageEnds).toEqual([130, 230, 280, 380]);
  expect(next?.prompt.blocks.slice(0, 4)).toEqual([...(first?.prompt.blocks ?? [])]);
  const other = promptAt({ ...conversation, id: 4 }, 0, 64);
  expect(other.prompt.blocks.slice(0, 2)).toEqual([...(first?.prompt.blocks ?? [])].slice(0, 2));
  expect(other.prompt.blocks[2]).not.toBe(first?.prompt.blocks[2]);
});

test("a line of a trace that is no request is named", async () => {
  await using dir = tempDir();
  const file = join(dir.path, "trace.jsonl");
  const good = { timestamp: 5, input_length: 10, output_length: 0, hash_ids: [0] };
  writeFileSync(file, `${JSON.stringify(good)}\n{"timestamp":1}\n`);
  expect(() => readTrace(file, { speed: 1 })).toThrow("line 2 is no request");
});

test.each([
  [["--policy", "best"], '"best" is none of auto'],
  [["--g", "x"], '--g: "x" is no number'],
  [["--trace-speed", "-1"], "--trace-speed"],
  [["--nope"], "--nope"],
])("routing %j is refused", (args, message) => {
  expect(() => readRoutingOptions(args)).toThrow(message);
});

test.each([
  [["--replicas", "0"], "--replicas"],
  [["--sizes", "1,x"], "--sizes"],
])("decide %j is refused", (args, message) => {
  expect(() => readDecideOptions(args)).toThrow(message);
});
