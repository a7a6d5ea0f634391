/** Sends the body of a request that comes as a stream, as fast as the connection takes it. */

import { createNotifier } from "../flow/notifier.ts";
import type { HttpConnection } from "./connection.ts";

export interface Upload {
  /** The connection has taken what it was given. */
  onDrain(): void;
  /** The rest is not wanted: the stream is told. */
  stop(): void;
}

export interface UploadOptions {
  /** Null: it is not known, and the body goes in chunks. */
  length: number | null;
  connection: HttpConnection;
  /** What was written before is with the system. */
  isFree: boolean;
  onSent: () => void;
  /** The stream broke, or was not of its length. */
  onFail: (error: unknown) => void;
}

const CRLF = Buffer.from("\r\n");
const LAST_CHUNK = Buffer.from("0\r\n\r\n");

/** After `stop`, nothing is called. */
export function startUpload(stream: ReadableStream<Uint8Array>, options: UploadOptions): Upload {
  const { length, connection, isFree, onSent, onFail } = options;
  const drained = createNotifier();
  let isStopped = false;
  let cancel: (() => Promise<void>) | null = null;

  const write = async (bytes: Uint8Array) => {
    if (!isStopped && !connection.write(bytes)) await drained.wait();
  };
  const send = async () => {
    const reader = stream.getReader();
    cancel = () => reader.cancel();
    if (!isFree) await drained.wait();
    for (let sentBytes = 0; !isStopped;) {
      const { done, value: piece } = await reader.read();
      if (isStopped) return;
      if (done) {
        if (length !== null && sentBytes !== length) throw wrongLength(length);
        if (length === null) await write(LAST_CHUNK);
        if (!isStopped) onSent();
        return;
      }
      sentBytes += piece.length;
      if (length !== null && sentBytes > length) throw wrongLength(length);
      // An empty one would end the body.
      if (piece.length === 0) continue;
      await write(length === null ? chunkOf(piece) : piece);
    }
  };
  const stop = () => {
    if (isStopped) return;
    isStopped = true;
    drained.notify();
    // Of a stream that broke, the failure is known.
    cancel?.().catch(() => {});
  };
  send().catch((error: unknown) => {
    const isNews = !isStopped;
    stop();
    if (isNews) onFail(error);
  });
  return { onDrain: drained.notify, stop };
}

function chunkOf(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, CRLF]);
}

function wrongLength(length: number): Error {
  return new Error(`a body of ${length} bytes was to be sent`);
}
