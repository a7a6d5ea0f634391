import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  BLOCK_TOKENS,
  createKvCache,
  type KvNeed,
  type Lease,
} from "../../../src/sim/core/kv-cache.ts";

const BLOCK = 64;

/** A text of whole blocks, one for each letter. */
function blocks(letters: string): string {
  return [...letters].map((letter) => letter.repeat(BLOCK)).join("");
}

function need(text: string, outputTokens = 0, space = "m"): KvNeed {
  return { space, texts: [text], promptTokens: Math.ceil(text.length / 4), outputTokens };
}

function take(cache: ReturnType<typeof createKvCache>, of: KvNeed): Lease {
  const lease = cache.take(of);
  if (!lease) throw new Error("does not fit");
  return lease;
}

const END = { computed: true, space: "m", text: null };

describe("finding", () => {
  test("what was computed before is found up to the first difference", () => {
    const cache = createKvCache(100 * BLOCK_TOKENS);
    expect(take(cache, need(blocks("abc"))).cachedTokens).toBe(0);
    expect(take(cache, need(`${blocks("abx")}`)).cachedTokens).toBe(2 * BLOCK_TOKENS);
    expect(take(cache, need(`${blocks("xbc")}`)).cachedTokens).toBe(0);
  });

  test("the last token is always computed", () => {
    const cache = createKvCache(100 * BLOCK_TOKENS);
    take(cache, need(blocks("ab")));
    expect(take(cache, need(blocks("ab"))).cachedTokens).toBe(BLOCK_TOKENS);
    expect(take(cache, need(`${blocks("ab")}?`)).cachedTokens).toBe(2 * BLOCK_TOKENS);
  });

  test("nothing is shared between models, and no part of a block is", () => {
    const cache = createKvCache(100 * BLOCK_TOKENS);
    take(cache, need(`${blocks("a")}half`));
    expect(take(cache, need(`${blocks("aa")}`, 0, "other")).cachedTokens).toBe(0);
    expect(take(cache, need(`${blocks("a")}halfway`)).cachedTokens).toBe(BLOCK_TOKENS);
  });

  test("an answer is found again by the next turn", () => {
    const cache = createKvCache(100 * BLOCK_TOKENS);
    const first = take(cache, need(blocks("q"), 2 * BLOCK_TOKENS));
    cache.give(first, { ...END, text: blocks("qAA") });
    expect(take(cache, need(blocks("qAAr"))).cachedTokens).toBe(3 * BLOCK_TOKENS);
  });

  test("what was never computed is not found", () => {
    const cache = createKvCache(100 * BLOCK_TOKENS);
    cache.give(take(cache, need(blocks("ab"))), END);
    cache.give(take(cache, need(blocks("abcd"))), { ...END, computed: false });
    expect(take(cache, need(blocks("abcde"))).cachedTokens).toBe(2 * BLOCK_TOKENS);
  });
});

describe("room", () => {
  test("a request waits for the room of its prompt and its longest answer", () => {
    const cache = createKvCache(4 * BLOCK_TOKENS);
    const first = take(cache, need(blocks("a"), 2 * BLOCK_TOKENS));
    expect(cache.take(need(blocks("b"), BLOCK_TOKENS))).toBeNull();
    // Shares its prompt, so one block more is enough.
    expect(cache.take(need(blocks("a"), BLOCK_TOKENS))?.added).toBe(1);
    expect(cache.give(first, END)).toBe(2);
  });

  test("of what nobody holds, the end of the oldest text goes first", () => {
    const cache = createKvCache(4 * BLOCK_TOKENS);
    cache.give(take(cache, need(blocks("ab"))), END);
    cache.give(take(cache, need(blocks("cd"))), END);
    cache.give(take(cache, need(blocks("x"))), END);
    expect(take(cache, need(`${blocks("ab")}?`)).cachedTokens).toBe(BLOCK_TOKENS);
  });

  test("a request that is larger than all takes all", () => {
    const cache = createKvCache(2 * BLOCK_TOKENS);
    const all = take(cache, need(blocks("abcdef"), 5));
    expect(cache.take(need("y"))).toBeNull();
    expect(cache.give(all, END)).toBe(2);
  });
});

test("held blocks are counted right whatever comes and goes", () => {
  const step = fc.record({
    letters: fc.stringMatching(/^[ab]{1,5}$/),
    output: fc.nat(40),
    frees: fc.boolean(),
    which: fc.nat(9),
    computed: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const cache = createKvCache(12 * BLOCK_TOKENS);
      const leases: Lease[] = [];
      let held = 0;
      for (const { letters, output, frees, which, computed } of steps) {
        const [lease] = frees ? leases.splice(which % Math.max(1, leases.length), 1) : [];
        if (lease) held -= cache.give(lease, { ...END, computed, text: blocks(letters) });
        else {
          const taken = cache.take(need(blocks(letters), output));
          if (taken) leases.push(taken);
          held += taken?.added ?? 0;
        }
        expect(held).toBeGreaterThanOrEqual(0);
        expect(held).toBeLessThanOrEqual(cache.blocks);
      }
      for (const lease of leases) held -= cache.give(lease, END);
      expect(held).toBe(0);
    }),
  );
});
