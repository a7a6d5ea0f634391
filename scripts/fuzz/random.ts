/** Chance with a seed, and what fuzzers make of it: texts, pieces, damage. */

import { randomFrom } from "../drill/tally.ts";

export interface Random {
  /** From 0 on, below `n`. */
  below(n: number): number;
  /** With that probability. */
  chance(share: number): boolean;
  pick<T>(list: readonly T[]): T;
  /** So many calls of `make`, at most `most`. */
  several<T>(most: number, make: () => T): T[];
}

export function createRandom(seed: number): Random {
  const next = randomFrom(seed);
  const below = (n: number) => Math.floor(next() * n);
  return {
    below,
    chance: (share) => next() < share,
    pick(list) {
      const found = list[below(list.length)];
      if (found === undefined) throw new Error("nothing to pick from");
      return found;
    },
    several: (most, make) => Array.from({ length: below(most + 1) }, make),
  };
}

/** What breaks programs that read text. */
const ODD = [
  ...["", " ", "\t", "\n", "\r", "\r\n", "\n\n", "\0", "\u001b[2J", "\u007f", "\u0085", "\u2028"],
  ...["\u202e", "\ufeff", "\ufffd", "\u{1f600}", "\ud800", "é", "ſ", "İ"],
  ..."0 1 -1 -0 00 1e999 -1e-999 0x10 NaN Infinity 9007199254740993 18446744073709551616".split(
    " ",
  ),
  ...['"', "'", "`", "\\", "\\u", "\\u0000", "\\ud83d", "{", "}", "[", "]", "(", ")", "<", ">"],
  ...[",", ":", ";", "=", "#", "&", "|", "$", "${", "$(", "*", "?", "%", "%00", "%zz", "/", ".."],
  ...[
    "-",
    "--",
    "---",
    "null",
    "true",
    "false",
    "undefined",
    "__proto__",
    "constructor",
    "toString",
  ],
];

/** A text of odd and plain pieces. */
export function oddText(random: Random, most = 6): string {
  return random
    .several(most, () => (random.chance(0.6) ? random.pick(ODD) : plainText(random)))
    .join("");
}

function plainText(random: Random): string {
  const letters = "abcdefghijklmnopqrstuvwxyzABC0123456789_-. ";
  return random.several(12, () => letters[random.below(letters.length)] ?? "").join("");
}

/** The text with a few places damaged; `words` are what its readers look out for. */
export function damaged(random: Random, text: string, words: readonly string[] = ODD): string {
  let result = text;
  for (let left = 1 + random.below(4); left > 0; left -= 1) result = damage(random, result, words);
  return result;
}

/** So long that what looks at all again for each character is seen to. */
const LONG_RUN = 20_000;

function damage(random: Random, text: string, words: readonly string[]): string {
  const from = random.below(text.length + 1);
  const to = Math.min(text.length, from + random.below(random.chance(0.8) ? 8 : 400));
  const [before, part, after] = [text.slice(0, from), text.slice(from, to), text.slice(to)];
  switch (random.below(7)) {
    case 0:
      return before + after;
    case 1:
      return before + part + part + after;
    case 2:
      return before + random.pick(words) + part + after;
    case 3:
      return before + random.pick(ODD) + after;
    case 4:
      return before + oddText(random) + part + after;
    case 5:
      return random.chance(0.3) ? before : after + before;
    default: {
      if (random.chance(0.95)) return before + part.toUpperCase() + after;
      const run = random.pick(random.chance(0.5) ? words : ODD);
      return before + run.repeat(Math.ceil(LONG_RUN / Math.max(1, run.length))) + after;
    }
  }
}

export function damagedBytes(random: Random, bytes: Uint8Array): Buffer {
  let result = Buffer.from(bytes);
  for (let left = 1 + random.below(4); left > 0; left -= 1) {
    const at = random.below(result.length + 1);
    const end = at + random.below(8);
    const odd = Buffer.from(
      random.several(6, () => random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)])),
    );
    result = random.chance(0.5)
      ? Buffer.concat([result.subarray(0, at), odd, result.subarray(end)])
      : Buffer.concat([result.subarray(0, at), result.subarray(random.chance(0.5) ? end : at)]);
    if (at < result.length && random.chance(0.5)) result[at] = random.below(256);
  }
  return result;
}

/** The same bytes in pieces, some of one byte; each a copy of its own. */
export function inPieces(random: Random, bytes: Uint8Array): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  const most = random.pick([1, 3, 16, 200, 5000]);
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random.below(most));
    pieces.push(bytes.slice(at, end));
    at = end;
  }
  return pieces;
}

/** JSON text of some depth, spaced as people do it. */
export function jsonText(random: Random, depth = 4): string {
  const space = () => (random.chance(0.1) ? random.pick([" ", "\n", "\t", "  "]) : "");
  const kind = random.below(depth > 0 ? 8 : 5);
  if (kind === 0) return random.pick(["null", "true", "false"]);
  if (kind === 1) {
    return random.pick(["0", "-0", "12", "1.5", "-3e5", "1E+9", "2e-3", "123456789012345678901"]);
  }
  if (kind < 5) return JSON.stringify(oddText(random));
  const parts = random.several(4, () => jsonText(random, depth - 1));
  if (kind === 5) return `[${space()}${parts.join(`,${space()}`)}${space()}]`;
  const members = parts.map(
    (part) => `${JSON.stringify(oddText(random, 2))}${space()}:${space()}${part}`,
  );
  return `{${space()}${members.join(`${space()},`)}${space()}}`;
}
