/** Chunks of bytes that wait for their reader, as a stream that reads in its own time. */

import { createNotifier } from "./notifier.ts";

export interface ByteQueue {
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

/** A reader that stops holds a piece or two beside the queue: they are not to be large. */
const MAX_PIECE_BYTES = 32 * 1024;

/** Unbounded by itself: the caller that pushes keeps to a limit, such as credit. */
export function createByteQueue({ onTaken, onCancel }: ByteQueueOptions): ByteQueue {
  const waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let ended = false;
  let failure: { error: unknown } | null = null;
  let closed = false;
  const { wait, notify } = createNotifier();

  /** What has piled up goes in one piece, up to a size: the reader is the slower side. */
  const take = (): Uint8Array | null => {
    let count = 0;
    let bytes = 0;
    for (const chunk of waiting) {
      if (count > 0 && bytes + chunk.length > MAX_PIECE_BYTES) break;
      count += 1;
      bytes += chunk.length;
    }
    const pieces = waiting.splice(0, count);
    waitingBytes -= bytes;
    return pieces.length > 1 ? Buffer.concat(pieces) : (pieces[0] ?? null);
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (;;) {
          if (closed) return;
          if (failure) {
            closed = true;
            return controller.error(failure.error);
          }
          const chunk = take();
          if (chunk) {
            controller.enqueue(chunk);
            onTaken(chunk.length);
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
