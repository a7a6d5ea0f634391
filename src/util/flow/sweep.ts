/** Looks at all that runs now and then: one timer for all of it, and none while nothing runs. */

export class Sweep<T> implements Disposable {
  readonly #items = new Set<T>();
  readonly #everyMs: number;
  readonly #check: (item: T, now: number) => void;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** `check` gets `performance.now()`; it may add and delete items, itself too. */
  constructor(everyMs: number, check: (item: T, now: number) => void) {
    this.#everyMs = everyMs;
    this.#check = check;
  }

  add(item: T): void {
    this.#items.add(item);
    this.#timer ??= setInterval(() => this.#sweep(), this.#everyMs);
  }

  delete(item: T): void {
    this.#items.delete(item);
  }

  [Symbol.dispose](): void {
    this.#items.clear();
    this.#sweep();
  }

  // Stopped here and not with the last item: requests come and go more often than this.
  #sweep(): void {
    if (this.#items.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    const now = performance.now();
    for (const item of this.#items) this.#check(item, now);
  }
}
