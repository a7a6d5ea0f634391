/** Cuts a prompt where other prompts may differ from it, and names what lies before each cut. */

import { MAX_WALKED_BYTES, type Span } from "../json/scan.ts";
import type { PromptFacts } from "../../protocol/replica-request.ts";

type Boundaries = Pick<PromptFacts, "hashes" | "ends">;

/** Bytes of a prompt that are looked at; what lies beyond is too long to be like another. */
export const MAX_HASHED_BYTES = MAX_WALKED_BYTES;
/** Boundaries that a prompt has at most: those at fixed offsets, and the last ends of messages. */
const MAX_BOUNDARIES = 128;
/** Fixed boundaries are 256 bytes times powers of the eighth root of 2. */
const FIRST_OFFSET = 256;
const OFFSETS_PER_DOUBLING = 8;
/**
 * An end of a message counts if it is so many bytes, and this share of the prompt before it, from the
 * last one that did: a million tiny messages are no million boundaries.
 */
const MIN_GAP_BYTES = 64;
const MIN_GAP_SHARE = 1 / 256;

const FIXED_OFFSETS: readonly number[] = fixedOffsets();

function fixedOffsets(): number[] {
  const offsets: number[] = [];
  for (let i = 0; ; i += 1) {
    const offset = Math.round(FIRST_OFFSET * 2 ** (i / OFFSETS_PER_DOUBLING));
    if (offset > MAX_HASHED_BYTES) return offsets;
    offsets.push(offset);
  }
}

export interface Chain {
  /** Takes the next section in; boundaries may be at the ends given and at its own. */
  read(bytes: Uint8Array, section: Span, ends: readonly number[]): void;
  /** What has been cut so far. */
  boundaries(): Boundaries;
}

/**
 * Hashes sections as one text, from boundary to boundary, each hash seeded with the one before. Where
 * boundaries lie follows from what is before them alone: prompts that begin alike are cut alike.
 */
export function createChain(seed: bigint): Chain {
  const marks = createMarks();
  let hash = seed;
  let done = 0;
  let nextOffset = 0;
  /** Where the last end of a message was that counted. */
  let lastEnd = 0;
  const cut = (piece: Uint8Array, isFixed: boolean) => {
    hash = Bun.hash.wyhash(piece, hash);
    done += piece.length;
    marks.add(hash, done, isFixed);
  };
  return {
    boundaries: marks.take,
    read(bytes, { start, end }, ends) {
      let from = start;
      const last = Math.min(end, start + MAX_HASHED_BYTES - done);
      const upTo = (stop: number, isFixed: boolean) => {
        cut(bytes.subarray(from, stop), isFixed);
        from = stop;
      };
      const offsetsUpTo = (stop: number) => {
        for (;;) {
          const offset = FIXED_OFFSETS[nextOffset];
          if (offset === undefined || offset - done > stop - from) return;
          nextOffset += 1;
          if (offset > done) upTo(from + offset - done, true);
        }
      };
      // There may be very many ends: they are not copied to put one more behind them.
      for (let i = 0; i <= ends.length; i += 1) {
        const stop = ends[i] ?? end;
        if (stop > last) break;
        offsetsUpTo(stop);
        const at = done + stop - from;
        if (at === done || at - lastEnd < Math.max(MIN_GAP_BYTES, MIN_GAP_SHARE * at)) continue;
        upTo(stop, false);
        lastEnd = at;
      }
      offsetsUpTo(last);
      // What is left belongs to the next boundary: the sections are one text.
      if (last > from) {
        hash = Bun.hash.wyhash(bytes.subarray(from, last), hash);
        done += last - from;
      }
    },
  };
}

/** Collects boundaries: all fixed ones, and of the ends of messages the last ones. */
interface Marks {
  add(hash: bigint, end: number, isFixed: boolean): void;
  take(): Boundaries;
}

function createMarks(): Marks {
  const hashes: bigint[] = [];
  const ends: number[] = [];
  const fixed: boolean[] = [];
  let fixedCount = 0;
  return {
    add(hash, end, isFixed) {
      hashes.push(hash);
      ends.push(end);
      fixed.push(isFixed);
      if (isFixed) fixedCount += 1;
    },
    take() {
      const surplus = Math.max(0, ends.length - MAX_BOUNDARIES);
      const count = ends.length - surplus;
      const word = new ArrayBuffer(8);
      const words = new BigUint64Array(word);
      const halves = new Uint32Array(word);
      const kept = { hashes: new Uint32Array(count * 2), ends: new Uint32Array(count) };
      let left = surplus;
      let at = 0;
      for (let i = 0; i < ends.length; i += 1) {
        if (left > 0 && fixed[i] === false) {
          left -= 1;
          continue;
        }
        words[0] = hashes[i] ?? 0n;
        kept.hashes[at * 2] = halves[1] ?? 0;
        kept.hashes[at * 2 + 1] = halves[0] ?? 0;
        kept.ends[at] = ends[i] ?? 0;
        at += 1;
      }
      return kept;
    },
  };
}
