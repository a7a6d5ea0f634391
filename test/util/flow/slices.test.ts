import { expect, test } from "bun:test";
import { isUtf8 } from "node:buffer";
import fc from "fast-check";
import { Copy, Hash, hashOf, Utf8Check } from "../../../src/util/flow/bulk.ts";
import {
  carryOut,
  carryOutInSlices,
  inSlices,
  type Plan,
  type Work,
} from "../../../src/util/flow/slices.ts";

function finish(work: Work, budget: number): void {
  let turns = 0;
  while (!work.run(budget)) {
    turns += 1;
    if (turns > 1_000_000) throw new Error("it does not get on");
  }
}

const budget = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant(Infinity));

test("whether bytes are UTF-8 does not depend on where they are cut", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.string({ unit: "binary", maxLength: 40 }).map((text) => Buffer.from(text)),
    // Continuations alone, and characters that lack one.
    fc
      .array(fc.constantFrom(0x61, 0x80, 0xbf, 0xc3, 0xe6, 0xbc, 0xa2, 0xf0, 0x9f))
      .map(Buffer.from),
  );
  const property = fc.property(bytes, budget, (text, each) => {
    const check = new Utf8Check(text);
    finish(check, each);
    expect(check.isUtf8).toBe(isUtf8(text));
  });
  fc.assert(property, { numRuns: 3000 });
});

test("a hash is the same in slices, and another for other bytes", () => {
  for (const size of [0, 1, 65_535, 65_536, 65_537, 200_000]) {
    const bytes = new Uint8Array(size).fill(7);
    for (const each of [1000, 70_000]) {
      const hash = new Hash(bytes);
      finish(hash, each);
      expect(hash.name).toBe(hashOf(bytes));
    }
    if (size === 0) continue;
    const other = bytes.slice();
    other[size - 1] = 8;
    expect(hashOf(other)).not.toBe(hashOf(bytes));
    other[size - 1] = 7;
    other[0] = 8;
    expect(hashOf(other)).not.toBe(hashOf(bytes));
  }
});

test("parts are put together, in whatever slices", () => {
  const property = fc.property(
    fc.array(fc.uint8Array({ maxLength: 20 })),
    budget,
    (parts, each) => {
      const copy = new Copy(parts);
      finish(copy, each);
      expect(Buffer.concat(parts).equals(copy.bytes)).toBe(true);
      expect(new Copy(parts, 1000).bytes.length).toBe(1000);
    },
  );
  fc.assert(property, { numRuns: 500 });
});

test("others have their turns during long work, none during short work", async () => {
  let others = 0;
  const work = (ms: number): Work => {
    const endAt = performance.now() + ms;
    return { run: () => performance.now() >= endAt };
  };
  setImmediate(() => (others += 1));
  await inSlices(work(0));
  expect(others).toBe(0);
  await inSlices(work(20));
  expect(others).toBe(1);
});

test("a plan is carried out in one go and in slices", async () => {
  function* plan(bytes: Uint8Array): Plan<string> {
    const copy = new Copy([bytes, bytes]);
    yield copy;
    const hash = new Hash(copy.bytes);
    yield hash;
    return hash.name;
  }
  const bytes = new Uint8Array(100_000);
  expect(carryOut(plan(bytes))).toBe(hashOf(new Uint8Array(200_000)));
  expect(await carryOutInSlices(plan(bytes))).toBe(carryOut(plan(bytes)));
});

test("what work throws comes out", async () => {
  const work: Work = {
    run() {
      throw new Error("no");
    },
  };
  await expect(inSlices(work)).rejects.toThrow("no");
});
