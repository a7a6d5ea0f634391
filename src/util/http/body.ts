/** An answer's bytes between the socket that brings them and the reader that takes them. */

import { createNotifier } from "../flow/notifier.ts";

/** For one reader that does one thing at a time. */
export interface AnswerBody {
  /**
   * How many bytes can be taken, waiting for some; 0 at the end. Rejects when the answer broke off,
   * after what had come before.
   */
  ready(): Promise<number>;
  /** Up to `most` of them in one piece, which may be a view of what came. */
  take(most: number): Uint8Array;
  /** To be called before a long wait: what waits is copied, or it keeps what was taken in memory. */
  compact(): void;
}

export interface AnswerBodyOptions {
  maxWaitingBytes: number;
  /** More waits than should: the socket is to be read no further. */
  onFull: () => void;
  /** There is room again. */
  onRoom: () => void;
}

export interface AnswerBodyInlet extends AnswerBody {
  push(bytes: Buffer): void;
  end(): void;
  fail(error: unknown): void;
}

export function createAnswerBody(options: AnswerBodyOptions): AnswerBodyInlet {
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  let isFull = false;
  let isEnded = false;
  let failure: { error: unknown } | null = null;
  const { wait, notify } = createNotifier();
  return {
    async ready() {
      for (;;) {
        if (waitingBytes > 0) return waitingBytes;
        if (failure) throw failure.error;
        if (isEnded) return 0;
        await wait();
      }
    },
    take(most) {
      const all = waiting.length === 1 && waiting[0] ? waiting[0] : Buffer.concat(waiting);
      const taken = all.subarray(0, most);
      waiting = taken.length < all.length ? [all.subarray(most)] : [];
      waitingBytes -= taken.length;
      if (isFull && waitingBytes < options.maxWaitingBytes) {
        isFull = false;
        options.onRoom();
      }
      return taken;
    },
    compact() {
      if (isFull) waiting = [Buffer.concat(waiting)];
    },
    push(bytes) {
      waiting.push(bytes);
      waitingBytes += bytes.length;
      if (!isFull && waitingBytes >= options.maxWaitingBytes) {
        isFull = true;
        options.onFull();
      }
      notify();
    },
    end() {
      isEnded = true;
      notify();
    },
    fail(error) {
      failure ??= { error };
      notify();
    },
  };
}
