/** Which engines probably hold which prompts in their caches: a table of bounded size. */

/** Names a replica in one run of its engine: 1 to 65,535; 0 is none. */
export type Holder = number;

export interface HolderIds {
  /** The id that was free for the longest time, or 0: none is free for long enough. */
  take(now: number): Holder;
  /** Gives an id back; no replica may be looked for under it any more. */
  retire(holder: Holder, now: number): void;
}

const MAX_HOLDERS = 0xffff;

/**
 * Hands out every id once before it hands one out again, and none that was retired less than
 * `restMs` ago: what the table still says of its last bearer has expired by then.
 */
export function createHolderIds({ restMs, max = MAX_HOLDERS }: HolderIdOptions): HolderIds {
  let next = 1;
  let first = 0;
  let retired: { holder: Holder; at: number }[] = [];
  return {
    take(now) {
      if (next <= max) {
        next += 1;
        return next - 1;
      }
      const oldest = retired[first];
      if (oldest === undefined || now - oldest.at < restMs) return 0;
      first += 1;
      if (first > 1024 && first * 2 > retired.length) {
        retired = retired.slice(first);
        first = 0;
      }
      return oldest.holder;
    },
    retire(holder, now) {
      if (holder !== 0) retired.push({ holder, at: now });
    },
  };
}

export interface HolderIdOptions {
  restMs: number;
  max?: number;
}

/** Where a prompt may be cut: as `hashes` and `ends` of PromptFacts. */
export interface Boundaries {
  /** In two halves of 32 bits each, high half first. */
  hashes: Uint32Array;
  /** Bytes before each boundary, in ascending order. */
  ends: Uint32Array;
}

export interface PrefixIndex {
  /** Notes that `holder` has the prompt from now on. */
  insert(prompt: Boundaries, holder: Holder, now: number): void;
  /** Looks a prompt up; the answer holds until the next lookup. Gives the longest match's bytes. */
  lookup(prompt: Boundaries, now: number): number;
  /** How many bytes of the prompt looked up last `holder` has; 0: it is not known to have any. */
  bytesOf(holder: Holder): number;
  /** `holder` does not have what lies beyond these bytes of the prompt after all. */
  drop(prompt: Boundaries, holder: Holder, beyondBytes: number): void;
  /** What the table itself takes, for ever. */
  readonly memoryBytes: number;
}

/** 21 MB; caches of engines turn over within minutes. */
export const PREFIX_INDEX_DEFAULTS = {
  /** How many prefixes are known at most; a power of two. 20 bytes each. */
  slots: 2 ** 20,
  /** Prefixes that were not sent for so long do not count. */
  maxAgeMs: 600_000,
};
export type PrefixIndexOptions = typeof PREFIX_INDEX_DEFAULTS;

/** Slots in which a key may lie; the oldest of them gives way to a new one. */
const WINDOW = 8;
/** Engines that one prefix may be known of; the one that got it last comes first. */
const PLACES = 4;
const TICK_MS = 100;

/** Throws RangeError where `slots` is no power of two of at least 8. */
export function createPrefixIndex(options: Partial<PrefixIndexOptions> = {}): PrefixIndex {
  const { slots, maxAgeMs } = { ...PREFIX_INDEX_DEFAULTS, ...options };
  const table = newTable(slots, Math.ceil(maxAgeMs / TICK_MS));
  const { keys, holders, ticks } = table;
  // What the last lookup found, by holder: valid where the stamp is the lookup's.
  const stamps = new Uint32Array(MAX_HOLDERS + 1);
  const found = new Uint32Array(MAX_HOLDERS + 1);
  let stamp = 0;
  let start: number | null = null;

  /** Never 0, which means an empty slot. */
  const tickOf = (now: number) => {
    start ??= now;
    return Math.max(0, Math.floor((now - start) / TICK_MS)) + 1;
  };

  return {
    memoryBytes: keys.byteLength + holders.byteLength + ticks.byteLength,
    insert({ hashes, ends }, holder, now) {
      if (holder === 0) return;
      const tick = tickOf(now);
      for (let i = 0; i < ends.length; i += 1) {
        const high = hashes[i * 2] ?? 0;
        const low = hashes[i * 2 + 1] ?? 0;
        let slot = find(table, high, low);
        if (slot === -1) slot = claim(table, high, low);
        else if (!isFresh(table, slot, tick)) forgetHolders(holders, slot);
        putFirst(holders, slot, holder);
        ticks[slot] = tick;
      }
    },
    lookup({ hashes, ends }, now) {
      const tick = tickOf(now);
      stamp = (stamp + 1) >>> 0;
      // After four thousand million lookups old stamps would look new.
      if (stamp === 0) {
        stamps.fill(0);
        stamp = 1;
      }
      let longest = 0;
      for (let i = ends.length - 1; i >= 0; i -= 1) {
        const slot = find(table, hashes[i * 2] ?? 0, hashes[i * 2 + 1] ?? 0);
        if (slot === -1 || !isFresh(table, slot, tick)) continue;
        const bytes = ends[i] ?? 0;
        for (let place = slot * PLACES; place < slot * PLACES + PLACES; place += 1) {
          const holder = holders[place] ?? 0;
          if (holder === 0) break;
          if (stamps[holder] === stamp) continue;
          stamps[holder] = stamp;
          found[holder] = bytes;
          if (bytes > longest) longest = bytes;
        }
      }
      return longest;
    },
    bytesOf: (holder) => (stamps[holder] === stamp && stamp !== 0 ? (found[holder] ?? 0) : 0),
    drop({ hashes, ends }, holder, beyondBytes) {
      for (let i = ends.length - 1; i >= 0 && (ends[i] ?? 0) > beyondBytes; i -= 1) {
        const slot = find(table, hashes[i * 2] ?? 0, hashes[i * 2 + 1] ?? 0);
        if (slot !== -1) removeHolder(holders, slot, holder);
      }
    },
  };
}

interface Table {
  /** One less than the slots. */
  readonly mask: number;
  /** Of each slot a hash in two halves. */
  readonly keys: Uint32Array;
  readonly holders: Uint16Array;
  /** When each slot was last written; 0: never. */
  readonly ticks: Uint32Array;
  readonly maxAgeTicks: number;
}

function newTable(slots: number, maxAgeTicks: number): Table {
  if (slots < WINDOW || slots > 2 ** 28 || Math.log2(slots) % 1 !== 0) {
    throw new RangeError(`${slots} slots are no power of two from ${WINDOW} on`);
  }
  return {
    mask: slots - 1,
    keys: new Uint32Array(slots * 2),
    holders: new Uint16Array(slots * PLACES),
    ticks: new Uint32Array(slots),
    maxAgeTicks,
  };
}

function isFresh({ ticks, maxAgeTicks }: Table, slot: number, tick: number): boolean {
  const written = ticks[slot] ?? 0;
  return written !== 0 && tick - written <= maxAgeTicks;
}

/** The slot with this key, or -1. */
function find({ mask, keys, ticks }: Table, high: number, low: number): number {
  for (let i = 0; i < WINDOW; i += 1) {
    const slot = (low + i) & mask;
    if (keys[slot * 2 + 1] === low && keys[slot * 2] === high && ticks[slot] !== 0) return slot;
  }
  return -1;
}

/** A slot for a new key, empty or of the oldest; what it held is forgotten. */
function claim({ mask, keys, holders, ticks }: Table, high: number, low: number): number {
  let victim = low & mask;
  for (let i = 0; i < WINDOW; i += 1) {
    const slot = (low + i) & mask;
    if ((ticks[slot] ?? 0) < (ticks[victim] ?? 0)) victim = slot;
  }
  keys[victim * 2] = high;
  keys[victim * 2 + 1] = low;
  forgetHolders(holders, victim);
  return victim;
}

function forgetHolders(holders: Uint16Array, slot: number): void {
  holders.fill(0, slot * PLACES, slot * PLACES + PLACES);
}

/** Puts a holder first; the last one falls off where there is no room. */
function putFirst(holders: Uint16Array, slot: number, holder: Holder): void {
  const first = slot * PLACES;
  let at = first;
  while (at < first + PLACES - 1 && holders[at] !== holder && holders[at] !== 0) at += 1;
  for (; at > first; at -= 1) holders[at] = holders[at - 1] ?? 0;
  holders[first] = holder;
}

function removeHolder(holders: Uint16Array, slot: number, holder: Holder): void {
  const last = slot * PLACES + PLACES - 1;
  let at = slot * PLACES;
  while (at <= last && holders[at] !== holder) at += 1;
  if (at > last) return;
  for (; at < last; at += 1) holders[at] = holders[at + 1] ?? 0;
  holders[last] = 0;
}
