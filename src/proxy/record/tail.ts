/** Keeps the end of what passes in chunks. */

/** The last frames of a stream that comes in the smallest of pieces need so much. */
const LEAST_KEPT_BYTES = 4096;

/** The end of a stream: at least so many bytes of it, and twice as many at the most. */
export class Tail {
  readonly #maxBytes: number;
  #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    // Dropping one by one would move the rest for every chunk.
    if (this.#chunks.length >= 256 || this.#length > 2 * this.#maxBytes) this.#shorten();
  }

  startsWith(chunk: Uint8Array): boolean {
    return this.#chunks[0] === chunk;
  }

  joined(): Uint8Array {
    return joined(this.#chunks);
  }

  /** The last chunks, as many as have so many bytes. */
  last(bytes: number): Uint8Array {
    let from = this.#chunks.length;
    for (let length = 0; from > 0 && length < bytes;) {
      from -= 1;
      length += this.#chunks[from]?.length ?? 0;
    }
    return joined(this.#chunks.slice(from));
  }

  #shorten(): void {
    const chunks = this.#chunks;
    let kept = 0;
    let from = chunks.length;
    const isWanted = () => chunks.length - from < 64 || kept < LEAST_KEPT_BYTES;
    while (from > 0 && kept < this.#maxBytes && isWanted()) {
      from -= 1;
      kept += chunks[from]?.length ?? 0;
    }
    const rest = chunks.slice(from);
    this.#chunks = rest.length > 64 ? [Buffer.concat(rest)] : rest;
    this.#length = kept;
  }
}

/** A single one is not copied: whole answers come as one. */
function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const [first] = chunks;
  return chunks.length === 1 && first !== undefined ? first : Buffer.concat(chunks);
}
