/** One request to an HTTP server and its answer, told as it comes; the same by socket and by lane. */

/** A header field; the name in lower case, the value as Latin-1 text. */
export type Field = readonly [name: string, value: string];

export type BodyContent = Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null;

export interface HttpRequest {
  method: string;
  /** Path and query, from the first slash on. */
  path: string;
  /** In place of the server's address; null: that one. */
  host: string | null;
  /**
   * Header lines, each as `name: value\r\n`: without `host`, and without what speaks of the
   * connection or of the body's length.
   */
  fields: string;
  body: BodyContent;
  /** Of a streamed body, where it is known; of any other it is not looked at. */
  length: number | null;
  /** A connection that was not used before. */
  fresh: boolean;
}

export interface AnswerHead {
  status: number;
  /** In the server's order. */
  fields: readonly Field[];
}

/**
 * Takes an answer: `head` once, `data` as often as some of the body comes, then `end` once; or at
 * any point `fail`, which is the last call. Nothing is called from within the call that sends, and
 * nothing after `abort`.
 */
export interface AnswerSink {
  head(head: AnswerHead): void;
  /** The bytes are the taker's: they may be kept, and do not change. */
  data(bytes: Uint8Array): void;
  end(): void;
  /**
   * With the codes of the system: ETIMEDOUT (nothing accepts the connection in time), ECONNREFUSED,
   * ENOTFOUND, ..., ECONNRESET (it broke), EPROTO (what came is not HTTP/1.1).
   */
  fail(error: unknown): void;
}

/** A request under way. Calls after its end do nothing. */
export interface Exchange {
  /** Asks for no more of the body; what has been read already may still come. */
  pause(): void;
  resume(): void;
  /** Ends it, wherever it is: the answer is not wanted any more. */
  abort(): void;
}

/** Sends a request to one server. Never throws: `fail` tells. */
export type Upstream = (request: HttpRequest, sink: AnswerSink) => Exchange;

/** The value of a field, the first of that name; null: it is not there. `name` in lower case. */
export function fieldIn({ fields }: Pick<AnswerHead, "fields">, name: string): string | null {
  for (const [own, value] of fields) if (own === name) return value;
  return null;
}

/** An answer that was read whole, or as far as was wanted. */
export interface ReadAnswer extends AnswerHead {
  bytes: Buffer;
  /** False where there was more than was wanted. */
  isWhole: boolean;
}

/**
 * Takes up to so many bytes of an answer together. For what is rare: the data path takes answers as
 * they come.
 */
export class AnswerCollector implements AnswerSink {
  readonly #maxBytes: number;
  readonly #answer = Promise.withResolvers<ReadAnswer>();
  #head: AnswerHead = { status: 0, fields: [] };
  #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Rejects as `fail` tells. Where it is not whole the exchange is still under way: it is to be
   * aborted.
   */
  get answer(): Promise<ReadAnswer> {
    return this.#answer.promise;
  }

  head(head: AnswerHead): void {
    this.#head = head;
  }

  data(bytes: Uint8Array): void {
    if (this.#length > this.#maxBytes) return;
    this.#chunks.push(bytes);
    this.#length += bytes.length;
    if (this.#length > this.#maxBytes) this.#settle(false);
  }

  end(): void {
    this.#settle(true);
  }

  fail(error: unknown): void {
    this.#chunks = [];
    this.#answer.reject(error);
  }

  #settle(isWhole: boolean): void {
    const bytes = Buffer.concat(this.#chunks).subarray(0, this.#maxBytes);
    this.#chunks = [];
    this.#answer.resolve({ ...this.#head, bytes, isWhole });
  }
}
