import { expect, test } from "bun:test";
import { lookUp } from "../../scripts/bench/keys/lookup.ts";
import { readKeysOptions } from "../../scripts/bench/keys/keys.ts";
import { tempDir } from "../helpers/temp.ts";

test("keys: options are read, anything else is refused", () => {
  expect(readKeysOptions([])).toMatchObject({ keys: 100_000, floods: [64, 512], json: null });
  expect(readKeysOptions(["--keys", "5", "--flood", "1,2"])).toMatchObject({
    keys: 5,
    floods: [1, 2],
  });
  for (const args of [
    ["--keys", "0"],
    ["--flood", "1,x"],
    ["--flood", ""],
    ["--wrong"],
    ["more"],
  ]) {
    expect(() => readKeysOptions(args)).toThrow();
  }
});

test("a look-up is measured with keys as the head itself reads them", async () => {
  using dir = tempDir();
  const found = await lookUp({ dir: dir.path, keys: 200, rounds: 1 });
  expect(found.keys).toBe(200);
  for (const us of [found.few_us, found.look_up_us, found.admit_us, found.usage_us]) {
    expect(us).toBeGreaterThan(0);
  }
});
