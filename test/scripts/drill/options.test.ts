import { expect, test } from "bun:test";
import { DRILLS } from "../../../scripts/drill/faults.ts";
import { readOptions } from "../../../scripts/drill/options.ts";

test("by default all drills", () => {
  const options = readOptions([]);
  expect(options).toMatchObject({ clients: 8, requests: 100, workers: 4, soakMs: null });
  expect(options.only).toEqual(DRILLS.map((drill) => drill.name));
});

test("all that can be said", () => {
  const words = "--only drain,poison --soak 1h --seed 7 --limit 30s --json --growth 64MiB";
  expect(readOptions(words.split(" "))).toMatchObject({
    only: ["drain", "poison"],
    soakMs: 3_600_000,
    seed: 7,
    limitMs: 30_000,
    json: true,
    growthBytes: 64 * 1024 ** 2,
  });
});

test.each([
  [["--only", "drain,nap"], 'no drill is called "nap"'],
  [["--clients", "0"], "--clients needs a whole number of at least 1"],
  [["--workers", "2"], "--workers needs a whole number of at least 3"],
  [["--requests", "many"], "--requests needs a whole number"],
  [["--limit", "60"], "--limit needs a duration"],
  [["--limit", "0s"], "--limit needs a duration"],
  [["--growth", "1"], "--growth needs a size"],
  [["--soak", "1h", "--only", "head-restart"], "a soak needs a drill beside head-restart"],
  [["--nope"], "nope"],
])("%p is refused", (words, message) => {
  expect(() => readOptions(words)).toThrow(message);
});
