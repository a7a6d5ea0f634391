/** Bytes that arrive piece by piece, as a stream that says how much of them was taken. */

export interface ByteQueueOptions {
  /** What may wait while more is wanted: what was taken is told once this much has been, at the latest. */
  heldBytes: number;
  /** Below this it is not told. */
  stepBytes: number;
  /** Bytes that the reader has taken. */
  onTaken: (bytes: number) => void;
}

/** Unbounded by itself: the caller that pushes keeps to a limit, such as credit. */
export class ByteQueue {
  readonly stream: ReadableStream<Uint8Array>;
  /** Null once nothing more is wanted. */
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;
  /** Pushed, and not told as taken. */
  #owedBytes = 0;

  constructor({ heldBytes, stepBytes, onTaken }: ByteQueueOptions) {
    this.stream = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: ({ desiredSize }) => {
          const waitingBytes = heldBytes - (desiredSize ?? 0);
          const takenBytes = this.#owedBytes - waitingBytes;
          if (takenBytes < stepBytes) return;
          this.#owedBytes -= takenBytes;
          onTaken(takenBytes);
        },
        cancel: () => {
          this.#controller = null;
        },
      },
      { highWaterMark: heldBytes, size: (bytes) => bytes?.length ?? 0 },
    );
  }

  push(bytes: Uint8Array): void {
    if (this.#controller === null || bytes.length === 0) return;
    this.#owedBytes += bytes.length;
    this.#controller.enqueue(bytes);
  }

  /** No more bytes; what waits is still read. */
  end(): void {
    this.#controller?.close();
    this.#controller = null;
  }

  /** Breaks the stream off at once. */
  fail(error: unknown): void {
    this.#controller?.error(error);
    this.#controller = null;
  }
}
