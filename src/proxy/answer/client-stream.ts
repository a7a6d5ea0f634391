/** The body of an answer that goes to its client as it comes, at the client's pace. */

/**
 * How much may wait for a client before the engine is to stop: a slow reader is no reason to stop
 * with every event, and one that takes nothing must not cost much.
 */
const MAX_WAITING_BYTES = 64 * 1024;

/** What a stream tells its owner. */
export interface StreamEvents {
  /** The client has taken what waited for it. */
  onDrained(): void;
  /** The client has left, before the end. Called once. */
  onLeft(): void;
}

/**
 * Written to by whoever has something, and taken by Bun's server: a direct stream, which costs a
 * third of a default one. Calls after its end do nothing.
 */
export class ClientStream {
  readonly body: ReadableStream<Uint8Array>;
  /** Since when what was written waits for the client, by `performance.now()`; null: it does not. */
  waitingSince: number | null = null;
  readonly #events: StreamEvents;
  /** Null until the server asks for the body, and again when it is over. */
  #controller: ReadableStreamDirectController | null = null;
  /** What was written before the server asked. */
  #early: Uint8Array[] = [];
  #waitingBytes = 0;
  #isOver = false;
  /** How it ended, for a server that has not asked yet; null: in order. */
  #failure: Error | null = null;
  #release: () => void = () => {};

  constructor(events: StreamEvents) {
    this.#events = events;
    this.body = new ReadableStream({
      type: "direct",
      pull: (controller) => this.#open(controller),
      cancel: () => this.#leave(),
    });
  }

  /** Whether there is room for more; where there is none, `onDrained` follows. */
  write(bytes: Uint8Array): boolean {
    const controller = this.#controller;
    if (controller === null) {
      if (!this.#isOver) this.#early.push(bytes);
      return true;
    }
    const taken = controller.write(bytes);
    if (typeof taken === "number") {
      // Without it the server waits for more.
      if (this.waitingSince === null) controller.flush();
    } else if (this.waitingSince === null) {
      this.waitingSince = performance.now();
      taken.then(this.#onTaken, this.#onTaken);
    }
    if (this.waitingSince === null) return true;
    this.#waitingBytes += bytes.length;
    return this.#waitingBytes < MAX_WAITING_BYTES;
  }

  end(): void {
    this.#close(null);
  }

  /** Breaks the connection off, so that its client cannot take what came for the whole. */
  fail(error: Error): void {
    this.#close(error);
  }

  readonly #onTaken = () => {
    this.waitingSince = null;
    this.#waitingBytes = 0;
    if (!this.#isOver) this.#events.onDrained();
  };

  /** Settles when it is over: the server ends the answer then. */
  #open(controller: ReadableStreamDirectController): Promise<void> {
    this.#controller = controller;
    const early = this.#early;
    this.#early = [];
    for (const bytes of early) this.write(bytes);
    // From within this call an end would not be noticed.
    if (this.#isOver) queueMicrotask(() => this.#finish(controller));
    return new Promise((resolve) => (this.#release = resolve));
  }

  #close(failure: Error | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#failure = failure;
    if (this.#controller !== null) this.#finish(this.#controller);
  }

  #finish(controller: ReadableStreamDirectController): void {
    this.#controller = null;
    if (this.#failure === null) controller.end();
    else controller.close(this.#failure);
    this.#release();
  }

  #leave(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#controller = null;
    this.#early = [];
    this.#release();
    this.#events.onLeft();
  }
}
