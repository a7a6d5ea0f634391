import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { FUZZERS } from "../../../scripts/fuzz/all.ts";
import { runGuarded } from "../../../scripts/fuzz/guard.ts";
import { readOptions } from "../../../scripts/fuzz/options.ts";
import { createRandom } from "../../../scripts/fuzz/random.ts";
import { runProcess } from "../../helpers/process.ts";
import { tempDir } from "../../helpers/temp.ts";

const SCRIPT = resolve(import.meta.dir, "../../../scripts/fuzz.ts");
const MISBEHAVING = join(import.meta.dir, "misbehaving.ts");
const NAMES = FUZZERS.map(({ name }) => name);
/** Those with real sockets take more time. */
const FEW: Record<string, number> = { requests: 6, sessions: 15, clients: 60 };

test.each(NAMES)("a few rounds of %s are clean", async (name) => {
  const fuzzer = FUZZERS.find((one) => one.name === name);
  await using opened = await fuzzer?.open();
  for (let seed = 1; seed <= (FEW[name] ?? 300); seed += 1) {
    await opened?.once(createRandom(seed));
  }
});

test("a round follows from its seed", () => {
  const drawn = (seed: number) => {
    const random = createRandom(seed);
    return Array.from({ length: 20 }, () => random.below(1000));
  };
  expect(drawn(5)).toEqual(drawn(5));
  expect(drawn(5)).not.toEqual(drawn(6));
});

async function guard(way: string) {
  const argv = [process.execPath, MISBEHAVING, way];
  const names = ["fine", "bad"];
  const { signal } = new AbortController();
  return await runGuarded({ argv, roundMs: 1000, pollMs: 20, names, signal });
}

test.each([
  ["spins", /over 1000 ms/],
  ["waits", /over 1000 ms/],
  ["crashes", /ended by SIGSEGV/],
])("a fuzzer that %s is found from outside, with its seed", async (way, text) => {
  const { code, finding } = await guard(way);
  expect([code, finding?.name, (finding?.seed ?? 0) >= 7]).toEqual([null, "bad", true]);
  expect(finding?.text).toMatch(text);
});

test.each([
  [
    "throws",
    /^bad: Error: found it[^]*again: scripts\/run\.sh fuzz --only bad --seed \d+ --rounds 1/m,
  ],
  ["forgets", /^bad: Error: nobody waits/m],
  ["leaks", /memory grew by \d/],
])("a fuzzer that %s fails the run", async (way, said) => {
  using dir = tempDir();
  const argv = [process.execPath, MISBEHAVING, way, join(dir.path, "round")];
  const { code, stdout } = await runProcess(argv);
  expect(code).toBe(1);
  expect(stdout).toMatch(said);
});

test("the script runs what it is told, and names what it does not know", async () => {
  const run = (...args: string[]) => runProcess([process.execPath, SCRIPT, ...args]);
  const { code, stdout, stderr } = await run(
    "--only",
    "json,forms",
    "--rounds",
    "50",
    "--seed",
    "3",
  );
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/^seed 3\njson +50 rounds {2}clean\nforms +50 rounds {2}clean\nmemory: /);
  expect((await run("--only", "nothing")).stderr).toContain('no fuzzer is called "nothing"');
  expect((await run("--list")).stdout.split("\n").length).toBe(NAMES.length + 1);
  for (const wrong of [
    ["--minutes", "0"],
    ["--seed", "-1"],
    ["--rounds", "x"],
    ["--growth", "a"],
  ]) {
    expect(() => readOptions(wrong, NAMES)).toThrow();
  }
});
