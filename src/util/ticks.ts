/** One clock for all that is looked after at the same pace: each timer of its own wakes the process. */

/** Has `work` done at each tick, until it is disposed of; in the order in which it was asked for. */
export type OnTick = (work: () => void) => Disposable;

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
