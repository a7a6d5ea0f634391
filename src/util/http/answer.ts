/** Takes the answer of an HTTP/1.1 server apart as it arrives, in any split. */

import { endOfHead, malformed, type ReadHead, readHead } from "./answer-head.ts";
import { coded } from "./failure.ts";

/** What a reader finds in one answer. */
export interface AnswerEvents {
  onHead(head: ReadHead): void;
  /** Some of the body, without its framing: a part of what was pushed. */
  onBody(bytes: Uint8Array): void;
  /** The answer is whole; `reusable`: the connection may carry another request. */
  onEnd(reusable: boolean): void;
}

/** Of all heads of one answer, announcements included; also of a trailer. */
const MAX_HEAD_BYTES = 64 * 1024;
/** A chunk's size with its extensions, or one field of a trailer. */
const MAX_LINE_BYTES = 8 * 1024;
/** Up to 2^48 bytes. */
const MAX_SIZE_DIGITS = 12;
/** A chunk up to this is moved to the one before it, so that both are one piece. */
const MAX_MOVED_BYTES = 16 * 1024;

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const TAB = 0x09;
const SEMICOLON = 0x3b;
const NO_DIGIT = 255;
const HEX = new Uint8Array(256).fill(NO_DIGIT);
for (const digit of "0123456789abcdefABCDEF") HEX[digit.charCodeAt(0)] = Number.parseInt(digit, 16);

type Reading = "head" | "length" | "close" | "over" | Chunked;
type Chunked = "size" | "size-end" | "chunk" | "chunk-end" | "trailer";

/** For the answer to one request with that method (RFC 9112, sections 4 to 7). */
export class AnswerReader {
  readonly #isHead: boolean;
  readonly #on: AnswerEvents;
  #reading: Reading = "head";
  #keepAlive = true;
  /** Of the body or the chunk that is being read. */
  #left = 0;
  #headBytes = 0;
  #trailerBytes = 0;
  /** Of the line that is being read, without its newline. */
  #lineBytes = 0;
  #digits = 0;
  #hasExtension = false;
  #afterReturn = false;
  /** The start of a head whose end has not come. */
  #held: Buffer | null = null;
  #heldBytes = 0;
  /** Where the piece of a chunked body lies that is being put together. */
  #pieceFrom = 0;
  #pieceEnd = 0;

  constructor(method: string, on: AnswerEvents) {
    this.#isHead = method === "HEAD";
    this.#on = on;
  }

  /**
   * The bytes are the reader's: it moves parts of them. Throws an error with the code EPROTO on what
   * is not HTTP/1.1.
   */
  push(bytes: Buffer): void {
    let at = 0;
    const { length } = bytes;
    while (at < length) {
      switch (this.#reading) {
        case "head":
          at = this.#readHead(bytes, at);
          break;
        case "length": {
          const end = Math.min(length, at + this.#left);
          this.#left -= end - at;
          if (this.#left === 0) this.#reading = "over";
          this.#on.onBody(at === 0 && end === length ? bytes : bytes.subarray(at, end));
          at = end;
          break;
        }
        case "close":
          this.#on.onBody(at === 0 ? bytes : bytes.subarray(at));
          return;
        case "over":
          return;
        default:
          at = this.#readChunks(bytes, at);
      }
      if (this.#isOver()) {
        // What follows was not asked for: it is unknown what the server thinks it answers.
        return this.#on.onEnd(this.#keepAlive && at === length);
      }
    }
  }

  /** The server has closed. Throws an error with the code ECONNRESET if that came too early. */
  finish(): void {
    if (this.#reading === "over") return;
    if (this.#reading !== "close") {
      throw coded("the connection broke before the answer was whole", "ECONNRESET");
    }
    this.#reading = "over";
    this.#on.onEnd(false);
  }

  /** Behind a method, since the compiler does not see that others change it. */
  #isOver(): boolean {
    return this.#reading === "over";
  }

  /** Where to go on: behind the head, or at the end where more must come first. */
  #readHead(bytes: Buffer, at: number): number {
    if (this.#held !== null) return this.#readHeldHead(this.#held, bytes, at);
    const end = endOfHead(bytes, at, bytes.length);
    this.#checkHead((end === -1 ? bytes.length : end) - at);
    if (end === -1) {
      // What comes piece by piece is not copied each time: there is room for all that may come.
      this.#held = Buffer.allocUnsafe(MAX_HEAD_BYTES + 1);
      this.#heldBytes = bytes.copy(this.#held, 0, at);
      return bytes.length;
    }
    this.#takeHead(bytes, at, end);
    return end;
  }

  #readHeldHead(held: Buffer, bytes: Buffer, at: number): number {
    const before = this.#heldBytes;
    this.#heldBytes += bytes.copy(held, before, at);
    // The end of a head is three bytes at most.
    const end = endOfHead(held, Math.max(0, before - 2), this.#heldBytes);
    this.#checkHead(end === -1 ? this.#heldBytes : end);
    if (end === -1) return bytes.length;
    this.#held = null;
    this.#takeHead(held, 0, end);
    return at + end - before;
  }

  #checkHead(bytes: number): void {
    if (this.#headBytes + bytes > MAX_HEAD_BYTES) throw malformed("its head is too long");
  }

  #takeHead(bytes: Buffer, from: number, end: number): void {
    this.#headBytes += end - from;
    const head = readHead(bytes, from, end);
    const { status } = head;
    if (status === 101) throw malformed("it changes the protocol without being asked");
    // Announcements; the answer itself follows.
    if (status < 200) return;
    if (this.#isHead || status === 204 || status === 304) head.body = "none";
    this.#keepAlive = head.keepAlive && head.body !== "close";
    this.#left = head.length;
    if (head.body === "chunks") this.#reading = "size";
    else if (head.body === "close") this.#reading = "close";
    else this.#reading = head.body === "none" || head.length === 0 ? "over" : "length";
    this.#on.onHead(head);
  }

  /** Where to go on: behind the body, or at the end. */
  #readChunks(bytes: Buffer, from: number): number {
    let at = from;
    this.#pieceEnd = this.#pieceFrom = at;
    while (at < bytes.length && !this.#isOver()) {
      if (this.#reading === "chunk") {
        const end = Math.min(bytes.length, at + this.#left);
        this.#addToPiece(bytes, at, end);
        this.#left -= end - at;
        if (this.#left === 0) this.#beginLine("chunk-end");
        at = end;
        continue;
      }
      const fault = this.#readFraming(bytes[at] ?? 0);
      if (fault !== null) {
        this.#passPiece(bytes);
        throw malformed(fault);
      }
      at += 1;
    }
    this.#passPiece(bytes);
    return at;
  }

  #addToPiece(bytes: Buffer, from: number, end: number): void {
    const length = end - from;
    if (this.#pieceEnd > this.#pieceFrom && length <= MAX_MOVED_BYTES) {
      bytes.copyWithin(this.#pieceEnd, from, end);
      this.#pieceEnd += length;
      return;
    }
    this.#passPiece(bytes);
    this.#pieceFrom = from;
    this.#pieceEnd = end;
  }

  #passPiece(bytes: Buffer): void {
    const [from, end] = [this.#pieceFrom, this.#pieceEnd];
    this.#pieceFrom = end;
    if (end > from) this.#on.onBody(bytes.subarray(from, end));
  }

  #beginLine(reading: Chunked): void {
    this.#reading = reading;
    this.#lineBytes = 0;
    this.#afterReturn = false;
  }

  /** One byte between chunks; what is wrong with it. */
  #readFraming(byte: number): string | null {
    if (byte === NEWLINE) return this.#endLine();
    if (this.#reading === "size") {
      const digit = HEX[byte] ?? NO_DIGIT;
      if (digit !== NO_DIGIT) {
        this.#left = this.#left * 16 + digit;
        this.#digits += 1;
        return this.#digits > MAX_SIZE_DIGITS ? "a chunk has no size" : null;
      }
      if (this.#digits === 0) return "a chunk has no size";
      this.#hasExtension = false;
      this.#beginLine("size-end");
    }
    this.#lineBytes += 1;
    if (this.#lineBytes > MAX_LINE_BYTES) return "a line of its framing is too long";
    if (this.#reading === "trailer") {
      this.#trailerBytes += 1;
      if (this.#trailerBytes > MAX_HEAD_BYTES) return "its trailer is too long";
    } else if (this.#afterReturn) {
      return "a line of its framing does not end";
    } else if (byte !== RETURN) {
      if (this.#reading === "chunk-end") return "a chunk is longer than its size";
      if (byte === SEMICOLON) this.#hasExtension = true;
      else if (!this.#hasExtension && byte !== SPACE && byte !== TAB) return "a chunk has no size";
    }
    this.#afterReturn = byte === RETURN;
    return null;
  }

  #endLine(): string | null {
    const isEmpty = this.#lineBytes === 0 || (this.#lineBytes === 1 && this.#afterReturn);
    if (this.#reading === "chunk-end") {
      this.#beginSize();
    } else if (this.#reading === "trailer") {
      if (isEmpty) this.#reading = "over";
      else this.#beginLine("trailer");
    } else {
      if (this.#digits === 0) return "a chunk has no size";
      if (this.#left === 0) this.#beginLine("trailer");
      else this.#reading = "chunk";
      this.#digits = 0;
    }
    return null;
  }

  #beginSize(): void {
    this.#beginLine("size");
    this.#left = 0;
    this.#digits = 0;
  }
}
