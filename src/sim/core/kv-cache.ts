/** A paged cache of prompts, as engines have it: blocks by chained hash, held, then evicted by age. */

/** vLLM's block. */
export const BLOCK_TOKENS = 16;

/** A simulated token is four bytes of text, so this much text is one block. */
const BLOCK_BYTES = BLOCK_TOKENS * 4;

/** What one running request holds. */
export interface Lease {
  /** Prompt tokens whose blocks were there already. */
  cachedTokens: number;
  /** Blocks that no request held before; a part of `size` where blocks are shared. */
  added: number;
  /** Named blocks, in the order of the text. */
  chain: readonly Key[];
  /** Those at the front of `chain` that were found. */
  found: number;
  /** Blocks without a name: for what is generated, and for ends of prompts. */
  unnamed: number;
}

type Key = bigint;

export interface KvCache {
  readonly blocks: number;
  /**
   * Takes all that a request will ever need (its prompt and its longest answer), so that nothing is
   * preempted later; null when it does not fit now. More than the whole cache counts as all of it.
   */
  take(need: KvNeed): Lease | null;
  /**
   * Returns how many blocks are free again. Those with a name stay findable until they are evicted,
   * the ends of texts first. `computed`: whether the prefill was done; `text`: prompt and answer,
   * where both are to be found by the next request.
   */
  give(lease: Lease, end: { computed: boolean; space: string; text: string | null }): number;
}

export interface KvNeed {
  /** Prompts of different spaces share nothing: the model, its adapter. */
  space: string;
  texts: readonly string[];
  promptTokens: number;
  outputTokens: number;
}

export function createKvCache(tokens: number): KvCache {
  const blocks = Math.floor(tokens / BLOCK_TOKENS);
  /** By name, how many requests hold it; those that none holds are in `idle` instead. */
  const held = new Map<Key, number>();
  /** In order of age, the oldest first. */
  const idle = new Set<Key>();
  let heldBlocks = 0;

  const touch = (key: Key) => {
    idle.delete(key);
    idle.add(key);
  };

  const evictTo = (limit: number) => {
    for (const key of idle) {
      if (idle.size <= limit) return;
      idle.delete(key);
    }
  };

  return {
    blocks,
    take({ space, texts, promptTokens, outputTokens }) {
      const names = new Set(texts.flatMap((text) => chainOf(space, text)));
      const chain = [...names].slice(0, blocks);
      const found = countWhile(chain, (key) => held.has(key) || idle.has(key));
      // The last token of a prompt is always computed, or there would be nothing to sample from.
      const most = Math.floor(Math.max(0, promptTokens - 1) / BLOCK_TOKENS);
      const size = Math.ceil((promptTokens + outputTokens) / BLOCK_TOKENS);
      const unnamed = Math.min(Math.max(0, size - chain.length), blocks - chain.length);
      const added = unnamed + chain.filter((key) => !held.has(key)).length;
      if (heldBlocks + added > blocks) return null;
      for (const key of chain) {
        idle.delete(key);
        held.set(key, (held.get(key) ?? 0) + 1);
      }
      heldBlocks += added;
      evictTo(blocks - heldBlocks);
      const cachedTokens = Math.min(found, most) * BLOCK_TOKENS;
      return { cachedTokens, added, chain, found, unnamed };
    },
    give({ chain, found, unnamed }, { computed, space, text }) {
      let freed = unnamed;
      // From the end on, so that the ends of texts are older, and evicted first.
      const more = computed && text !== null ? chainOf(space, text).slice(chain.length) : [];
      for (const key of more.reverse()) {
        if (!held.has(key)) touch(key);
      }
      for (const [i, key] of [...chain.entries()].reverse()) {
        const others = (held.get(key) ?? 1) - 1;
        if (others > 0) {
          held.set(key, others);
          continue;
        }
        held.delete(key);
        freed += 1;
        // What was never computed is not there for anybody else.
        if (computed || i < found) touch(key);
      }
      heldBlocks -= freed;
      evictTo(blocks - heldBlocks);
      return freed;
    },
  };
}

/** Names of the whole blocks of a text, each made of all the text up to its end. */
function chainOf(space: string, text: string): Key[] {
  const bytes = Buffer.from(text);
  const chain: Key[] = [];
  let key = Bun.hash.xxHash64(space);
  for (let at = 0; at + BLOCK_BYTES <= bytes.length; at += BLOCK_BYTES) {
    key = Bun.hash.xxHash64(bytes.subarray(at, at + BLOCK_BYTES), key);
    chain.push(key);
  }
  return chain;
}

function countWhile<T>(list: readonly T[], holds: (one: T) => boolean): number {
  const at = list.findIndex((one) => !holds(one));
  return at < 0 ? list.length : at;
}
