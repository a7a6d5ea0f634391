/** Chunks of bytes that wait for their reader, as a stream that reads in its own time. */

import { createNotifier } from "./notifier.ts";

export interface ByteQueue {
  /** What the reader gets. */
  readonly stream: ReadableStream<Uint8Array>;
  /** Bytes that were pushed and not yet taken. */
  readonly waitingBytes: number;
  push(chunk: Uint8Array): void;
  /** No more chunks; what waits is still read. */
  end(): void;
  /** Breaks the stream off at once. */
  fail(error: unknown): void;
}

export interface ByteQueueOptions {
  /** Bytes that the reader has taken. */
  onTaken: (bytes: number) => void;
  /** The reader wants no more. */
  onCancel: () => void;
}

/** Unbounded by itself: whoever pushes keeps to a limit, such as credit. */
export function createByteQueue({ onTaken, onCancel }: ByteQueueOptions): ByteQueue {
  const waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let ended = false;
  let failure: { error: unknown } | null = null;
  let closed = false;
  const { wait, notify } = createNotifier();
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          if (closed) return;
          if (failure) {
            closed = true;
            return controller.error(failure.error);
          }
          if (waiting.length > 0) {
            // What has piled up goes in one piece: the reader is the slower side.
            const chunk = waiting.length === 1 ? waiting[0] : Buffer.concat(waiting);
            waiting.length = 0;
            const bytes = waitingBytes;
            waitingBytes = 0;
            if (chunk) controller.enqueue(chunk);
            onTaken(bytes);
            return;
          }
          if (ended) {
            closed = true;
            return controller.close();
          }
          await wait();
        }
      },
      cancel() {
        closed = true;
        notify();
        onCancel();
      },
    },
    { highWaterMark: 0 },
  );
  return {
    stream,
    get waitingBytes() {
      return waitingBytes;
    },
    push(chunk) {
      if (closed || ended || chunk.length === 0) return;
      waiting.push(chunk);
      waitingBytes += chunk.length;
      notify();
    },
    end() {
      ended = true;
      notify();
    },
    fail(error) {
      failure ??= { error };
      notify();
    },
  };
}
