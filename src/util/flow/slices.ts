/** Long work in slices, between which everything else has its turn. */

export interface Work {
  /** Does about `budget` bytes more of it; true: that was the last of it. */
  run(budget: number): boolean;
}

/** How long work goes on before others have a turn. */
const SLICE_MS = 2;
/** How much is done from one look at the clock to the next: the slowest takes half a ms for that. */
const BYTES_PER_LOOK = 8 * 1024;

/** Rejects with what the work throws. */
export async function inSlices(work: Work): Promise<void> {
  const pace = new Pace();
  while (!work.run(BYTES_PER_LOOK)) {
    if (pace.isDue) await pace.rest();
  }
}

/** Tells when others are to have a turn. */
export class Pace {
  #begunAt = performance.now();

  get isDue(): boolean {
    return performance.now() - this.#begunAt >= SLICE_MS;
  }

  async rest(): Promise<void> {
    await nextTurn();
    this.#begunAt = performance.now();
  }
}

/** A plan is work that shows on the way: it yields each piece of it, and goes on when that is done. */
export type Plan<T> = Generator<Work, T, void>;

export function carryOut<T>(plan: Plan<T>): T {
  for (;;) {
    const { done, value } = plan.next();
    if (done) return value;
    value.run(Infinity);
  }
}

export async function carryOutInSlices<T>(plan: Plan<T>): Promise<T> {
  for (;;) {
    const { done, value } = plan.next();
    if (done) return value;
    await inSlices(value);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
