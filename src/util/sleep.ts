/** Pauses that can be cut short, and a clock that things have in common. */

/** Settles after `ms` or as soon as `signal` aborts, whichever comes first. Never rejects. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener("abort", finish, { once: true });
  });
}

/** Has `work` done at each tick, until it is disposed of; in the order in which it was asked for. */
export type OnTick = (work: () => void) => Disposable;

/** For all that is looked after at the same pace: each timer of its own would wake the process. */
export interface Ticks extends Disposable {
  onTick: OnTick;
}

export function startTicks(everyMs: number): Ticks {
  const works = new Set<{ work: () => void }>();
  const timer = setInterval(() => {
    for (const { work } of works) work();
  }, everyMs);
  return {
    onTick(work) {
      const entry = { work };
      works.add(entry);
      return { [Symbol.dispose]: () => void works.delete(entry) };
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
