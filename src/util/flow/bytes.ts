/** Searches in bytes, and reads no more of them than is wanted. */

const indexOf: (this: Uint8Array, needle: Uint8Array) => number = Buffer.prototype.indexOf;

/** Whether `needle` stands in `bytes`. Node's own search, without making a Buffer: four times cheaper. */
export function holds(bytes: Uint8Array, needle: Uint8Array): boolean {
  return indexOf.call(bytes, needle) !== -1;
}

/** At most so many bytes of a stream, and whether that is all of it; what is left is cancelled. */
export async function readUpTo(
  stream: ReadableStream<Uint8Array> | null | undefined,
  maxBytes: number,
): Promise<{ bytes: Buffer; isWhole: boolean }> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream ?? []) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length > maxBytes) break;
  }
  return { bytes: Buffer.concat(chunks).subarray(0, maxBytes), isWhole: length <= maxBytes };
}
