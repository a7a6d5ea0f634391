/** Counts what was taken within the last minute, never too little, in bounded memory. */

export interface Taken {
  /** When the first of it was taken, and the last: all of it counts until the last one is old. */
  readonly first: number;
  at: number;
  amount: number;
}

export interface Window {
  /** In the order in which they were taken. */
  readonly entries: Taken[];
  sum: number;
  readonly lengthMs: number;
}

/** What is taken within this part of the length is kept as one: so many entries at most, about. */
const PARTS = 128;

export function newWindow(lengthMs: number): Window {
  return { entries: [], sum: 0, lengthMs };
}

/** What counts at `now`. */
export function sumAt(window: Window, now: number): number {
  const { entries, lengthMs } = window;
  let old = 0;
  for (const { at, amount } of entries) {
    if (at + lengthMs > now) break;
    window.sum -= amount;
    old += 1;
  }
  if (old > 0) entries.splice(0, old);
  return window.sum;
}

/** The result is for `giveBack`. */
export function take(window: Window, amount: number, now: number): Taken {
  const last = window.entries.at(-1);
  window.sum += amount;
  if (last && now < last.first + window.lengthMs / PARTS) {
    last.at = Math.max(last.at, now);
    last.amount += amount;
    return last;
  }
  const entry = { first: now, at: now, amount };
  window.entries.push(entry);
  return entry;
}

/** As if `amount` of what was taken had not been; nothing if that is old already. */
export function giveBack(window: Window, taken: Taken, amount: number): void {
  if (!window.entries.includes(taken)) return;
  const given = Math.min(amount, taken.amount);
  taken.amount -= given;
  window.sum -= given;
}

/** How long until `amount` more fits below `limit`; 0: it fits now. */
export function waitMs(
  window: Window,
  { amount, limit }: { amount: number; limit: number },
  now: number,
): number {
  let over = sumAt(window, now) + amount - limit;
  if (over <= 0) return 0;
  for (const { at, amount: part } of window.entries) {
    over -= part;
    if (over <= 0) return at + window.lengthMs - now;
  }
  return window.lengthMs;
}

/** How long until nothing that was taken counts any more. */
export function emptyAfterMs(window: Window, now: number): number {
  const last = window.entries.findLast(({ amount }) => amount > 0);
  return last ? Math.max(0, last.at + window.lengthMs - now) : 0;
}
