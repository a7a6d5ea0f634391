import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Boundaries,
  createHolderIds,
  createPrefixIndex,
} from "../../../src/cluster/routing/prefix-index.ts";

/** A prompt of so many pieces of 100 bytes; of two with the same first words the pieces are alike. */
function prompt(words: string): Boundaries {
  const pieces = words.split(" ");
  const hashes = new Uint32Array(pieces.length * 2);
  const ends = new Uint32Array(pieces.length);
  let chained = 0n;
  for (const [i, piece] of pieces.entries()) {
    chained = Bun.hash.wyhash(piece, chained);
    hashes[i * 2] = Number(chained >> 32n);
    hashes[i * 2 + 1] = Number(chained & 0xffffffffn);
    ends[i] = (i + 1) * 100;
  }
  return { hashes, ends };
}

const small = (maxAgeMs = 600_000, slots = 1024) => createPrefixIndex({ slots, maxAgeMs });

test("the longest match counts, for each holder", () => {
  const index = small();
  index.insert(prompt("a b c"), 1, 0);
  index.insert(prompt("a b x"), 2, 0);
  expect(index.lookup(prompt("a b c d"), 0)).toBe(300);
  expect([1, 2, 3].map(index.bytesOf)).toEqual([300, 200, 0]);
  expect(index.lookup(prompt("z b c"), 0)).toBe(0);
  expect([1, 2].map(index.bytesOf)).toEqual([0, 0]);
});

test("before the first lookup nobody holds anything, and holder 0 is nobody", () => {
  const index = small();
  index.insert(prompt("a"), 0, 0);
  expect(index.bytesOf(1)).toBe(0);
  expect(index.lookup(prompt("a"), 0)).toBe(0);
  expect(index.bytesOf(0)).toBe(0);
});

test("of five holders the one that got it first is forgotten", () => {
  const index = small();
  for (const holder of [1, 2, 3, 4, 1, 5]) index.insert(prompt("a"), holder, 0);
  index.lookup(prompt("a"), 0);
  expect([1, 2, 3, 4, 5].map(index.bytesOf)).toEqual([100, 0, 100, 100, 100]);
});

test("what was not sent for too long does not count, and comes back without its old holders", () => {
  const index = small(10_000);
  index.insert(prompt("a b"), 1, 0);
  expect(index.lookup(prompt("a b"), 10_000)).toBe(200);
  expect(index.lookup(prompt("a b"), 10_200)).toBe(0);
  index.insert(prompt("a"), 2, 10_200);
  expect(index.lookup(prompt("a b"), 10_200)).toBe(100);
  expect([1, 2].map(index.bytesOf)).toEqual([0, 100]);
});

test("being asked for does not keep a prefix, being sent does", () => {
  const index = small(10_000);
  index.insert(prompt("a"), 1, 0);
  index.insert(prompt("b"), 1, 0);
  index.lookup(prompt("b"), 9000);
  index.insert(prompt("a"), 1, 9000);
  expect(index.lookup(prompt("a"), 15_000)).toBe(100);
  expect(index.lookup(prompt("b"), 15_000)).toBe(0);
});

test("what turns out not to be there is dropped, from its place on and for one holder", () => {
  const index = small();
  for (const holder of [1, 2, 3]) index.insert(prompt("a b c"), holder, 0);
  index.drop(prompt("a b c"), 2, 100);
  index.drop(prompt("a b c"), 9, 0);
  index.drop(prompt("x y"), 1, 0);
  index.lookup(prompt("a b c"), 0);
  expect([1, 2, 3].map(index.bytesOf)).toEqual([300, 100, 300]);
});

test("a full table forgets the oldest of the places that a prefix may have", () => {
  const index = createPrefixIndex({ slots: 8, maxAgeMs: 600_000 });
  const words = Array.from({ length: 9 }, (_, i) => `word${i}`);
  for (const [i, word] of words.entries()) index.insert(prompt(word), 1, i * 1000);
  const found = words.map((word) => index.lookup(prompt(word), 9000));
  expect(found).toEqual([0, 100, 100, 100, 100, 100, 100, 100, 100]);
});

test("its memory is what its slots take, and stays so", () => {
  const index = createPrefixIndex();
  expect(index.memoryBytes).toBe(2 ** 20 * 20);
  const tiny = createPrefixIndex({ slots: 16 });
  for (let i = 0; i < 1000; i += 1) tiny.insert(prompt(`${i} a b c`), 1 + (i % 9), i);
  expect(tiny.memoryBytes).toBe(320);
});

test.each([0, 4, 100, 2 ** 29])("%p slots are refused", (slots) => {
  expect(() => createPrefixIndex({ slots })).toThrow(RangeError);
});

interface Step {
  do: "insert" | "lookup" | "drop";
  words: string;
  holder: number;
  beyond: number;
  passMs: number;
}

const steps = fc.array(
  fc.record<Step>({
    do: fc.constantFrom("insert", "lookup", "drop"),
    words: fc
      .array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 5 })
      .map((words) => words.join(" ")),
    holder: fc.integer({ min: 1, max: 12 }),
    beyond: fc.integer({ min: 0, max: 500 }),
    passMs: fc.constantFrom(0, 100, 1000, 20_000),
  }),
  { maxLength: 80 },
);

/** What is true: who got each prefix, and when it was sent last to anybody. */
type Model = Map<string, { holders: Set<number>; sentAt: number }>;

const prefixesOf = (words: string) =>
  words.split(" ").map((_, i, all) => all.slice(0, i + 1).join(" "));

test("no holder is ever named that did not get the prefix lately; all are, while there is room", () => {
  const maxAgeMs = 30_000;
  const check = (run: Step[], slots: number, isRoomy: boolean) => {
    const index = createPrefixIndex({ slots, maxAgeMs });
    const model: Model = new Map();
    let now = 0;
    for (const step of run) {
      now += step.passMs;
      const bounds = prompt(step.words);
      if (step.do === "drop") index.drop(bounds, step.holder, step.beyond);
      if (step.do === "insert") index.insert(bounds, step.holder, now);
      for (const [i, prefix] of prefixesOf(step.words).entries()) {
        const known = model.get(prefix) ?? { holders: new Set(), sentAt: now };
        if (step.do === "drop" && (i + 1) * 100 > step.beyond) known.holders.delete(step.holder);
        if (step.do !== "insert") continue;
        if (now - known.sentAt > maxAgeMs) known.holders.clear();
        known.holders.delete(step.holder);
        known.holders.add(step.holder);
        const [first = 0] = known.holders;
        if (known.holders.size > 4) known.holders.delete(first);
        model.set(prefix, { ...known, sentAt: now });
      }
      if (step.do !== "lookup") continue;
      const longest = index.lookup(bounds, now);
      for (let holder = 1; holder <= 12; holder += 1) {
        const held = prefixesOf(step.words).findLastIndex((prefix) => {
          const known = model.get(prefix);
          return known && now - known.sentAt <= maxAgeMs && known.holders.has(holder);
        });
        const bytes = index.bytesOf(holder);
        expect(bytes).toBeLessThanOrEqual(longest);
        if (isRoomy) expect(bytes).toBe((held + 1) * 100);
        else expect(bytes).toBeLessThanOrEqual((held + 1) * 100);
      }
    }
  };
  fc.assert(
    fc.property(steps, (run) => {
      check(run, 2 ** 12, true);
      check(run, 8, false);
    }),
    { numRuns: 150 },
  );
});

test("ids go round: none twice while another is unused, a retired one last and not too soon", () => {
  const ids = createHolderIds({ restMs: 1000, max: 3 });
  expect([ids.take(0), ids.take(0)]).toEqual([1, 2]);
  ids.retire(1, 0);
  expect(ids.take(0)).toBe(3);
  expect(ids.take(999)).toBe(0);
  ids.retire(2, 500);
  expect(ids.take(1000)).toBe(1);
  expect(ids.take(1400)).toBe(0);
  expect(ids.take(1500)).toBe(2);
  expect(ids.take(9999)).toBe(0);
  ids.retire(0, 0);
  expect(ids.take(9999)).toBe(0);
});

test("ids that come and go by the hundred thousand are all different while they live", () => {
  const ids = createHolderIds({ restMs: 10, max: 100 });
  const alive: number[] = [];
  for (let i = 0; i < 100_000; i += 1) {
    const id = ids.take(i);
    if (id !== 0) {
      expect(alive.includes(id)).toBe(false);
      alive.push(id);
    }
    if (alive.length > 50) ids.retire(alive.shift() ?? 0, i);
  }
  expect(alive.length).toBe(50);
});
