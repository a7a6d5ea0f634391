/** Takes the answer of an HTTP/1.1 server apart as it arrives, in any split. */

export interface AnswerHead {
  status: number;
  /** In the server's order and its spelling, values as Latin-1. */
  headers: [string, string][];
}

/** What a reader finds in one answer. */
export interface AnswerEvents {
  head(head: AnswerHead): void;
  /** A piece of the body, without its framing: a view of what was pushed. */
  body(bytes: Buffer): void;
  /** The answer is whole; `reusable`: the connection may carry another request. */
  end(reusable: boolean): void;
}

export interface AnswerReader {
  /** Throws an error with the code EPROTO on what is not HTTP/1.1. */
  push(data: Buffer): void;
  /** The server has closed. Throws an error with the code ECONNRESET if that came too early. */
  finish(): void;
}

/** A head, or a trailer. */
const MAX_HEAD_BYTES = 64 * 1024;
/** A chunk's size with its extensions, or one field of a trailer. */
const MAX_LINE_BYTES = 8 * 1024;
const NEWLINE = 0x0a;

type Reading = "head" | "sized" | "rest" | "chunk" | Line | "over";
type Line = "chunk-size" | "chunk-end" | "trailer";
type Framing = { by: "length"; bytes: number } | { by: "chunks" } | { by: "close" };

/** For the answer to one request with that method (RFC 9112, sections 4 to 7). */
export function createAnswerReader(method: string, on: AnswerEvents): AnswerReader {
  return new Reader(method, on);
}

class Reader implements AnswerReader {
  readonly #method: string;
  readonly #on: AnswerEvents;
  #reading: Reading = "head";
  #keepAlive = true;
  /** Of the body or the chunk that is being read. */
  #left = 0;
  #trailerBytes = 0;
  /** The start of a head or a line whose end has not come. */
  #held: Buffer | null = null;

  constructor(method: string, on: AnswerEvents) {
    this.#method = method;
    this.#on = on;
  }

  push(data: Buffer): void {
    if (this.#reading === "over") return;
    const bytes: Buffer = this.#held === null ? data : Buffer.concat([this.#held, data]);
    this.#held = null;
    for (let at = 0; at < bytes.length;) {
      const next = this.#step(bytes, at);
      if (next === null) {
        this.#held = bytes.subarray(at);
        return;
      }
      at = next;
      if (isOver(this.#reading)) {
        // What follows was not asked for: it is unknown what the server thinks it answers.
        this.#on.end(this.#keepAlive && at === bytes.length);
        return;
      }
    }
  }

  finish(): void {
    if (this.#reading === "over") return;
    if (this.#reading !== "rest") throw broken("the connection broke before the answer was whole");
    this.#reading = "over";
    this.#on.end(false);
  }

  /** Where to go on in the bytes; null when more must come first. */
  #step(bytes: Buffer, at: number): number | null {
    switch (this.#reading) {
      case "head": {
        const end = endOfHead(bytes, at);
        if ((end ?? bytes.length) - at > MAX_HEAD_BYTES) throw malformed("its head is too long");
        if (end !== null) this.#takeHead(bytes.toString("latin1", at, end));
        return end;
      }
      case "sized":
      case "chunk": {
        const end = Math.min(bytes.length, at + this.#left);
        this.#left -= end - at;
        if (this.#left === 0) this.#reading = this.#reading === "sized" ? "over" : "chunk-end";
        this.#on.body(bytes.subarray(at, end));
        return end;
      }
      case "rest":
        this.#on.body(bytes.subarray(at));
        return bytes.length;
      case "chunk-size":
      case "chunk-end":
      case "trailer": {
        const end = bytes.indexOf(NEWLINE, at);
        if ((end === -1 ? bytes.length : end) - at > MAX_LINE_BYTES) {
          throw malformed("a line of its framing is too long");
        }
        if (end === -1) return null;
        this.#takeLine(bytes.toString("latin1", at, end).replace(/\r$/, ""), this.#reading);
        return end + 1;
      }
      case "over":
        return bytes.length;
    }
  }

  #takeHead(text: string): void {
    const { head, version } = readHead(text);
    if (head.status === 101) throw malformed("it changes the protocol without being asked");
    // Announcements; the answer itself follows.
    if (head.status < 200) return;
    const framing = framingOf(head, this.#method);
    const connection = listOf(head, "connection");
    this.#keepAlive =
      framing.by !== "close" &&
      (version === "1.1" ? !connection.includes("close") : connection.includes("keep-alive"));
    if (framing.by === "length") this.#left = framing.bytes;
    if (framing.by === "chunks") this.#reading = "chunk-size";
    else if (framing.by === "close") this.#reading = "rest";
    else this.#reading = this.#left === 0 ? "over" : "sized";
    this.#on.head(head);
  }

  #takeLine(line: string, at: Line): void {
    if (at === "chunk-end") {
      if (line !== "") throw malformed("a chunk is longer than its size");
      this.#reading = "chunk-size";
    } else if (at === "trailer") {
      this.#trailerBytes += line.length;
      if (this.#trailerBytes > MAX_HEAD_BYTES) throw malformed("its trailer is too long");
      if (line === "") this.#reading = "over";
    } else {
      const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
      if (size === undefined) throw malformed("a chunk has no size");
      this.#left = Number.parseInt(size, 16);
      this.#reading = this.#left === 0 ? "trailer" : "chunk";
    }
  }
}

/** Behind a function, since the compiler does not see that a step changes it. */
function isOver(reading: Reading): boolean {
  return reading === "over";
}

/** Where the empty line after a head ends. Lines may end without a carriage return. */
function endOfHead(bytes: Buffer, from: number): number | null {
  for (let at = bytes.indexOf(NEWLINE, from); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) {
    if (bytes[at + 1] === NEWLINE) return at + 2;
    if (bytes[at + 1] === 0x0d && bytes[at + 2] === NEWLINE) return at + 3;
  }
  return null;
}

const STATUS_LINE = /^HTTP\/(1\.[01]) ([1-5]\d\d)(?: .*)?$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;

function readHead(text: string): { head: AnswerHead; version: string } {
  const [first = "", ...lines] = text.split(/\r?\n/);
  const [, version, status] = STATUS_LINE.exec(first) ?? [];
  if (version === undefined || status === undefined)
    throw malformed("it does not begin with a status");
  const headers: [string, string][] = [];
  for (const line of lines) {
    if (line === "") break;
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name === undefined || value === undefined)
      throw malformed("a line in its head is not a header");
    headers.push([name, value]);
  }
  return { head: { status: Number(status), headers }, version };
}

/** How the body's end is known (RFC 9112, 6.3). */
function framingOf(head: AnswerHead, method: string): Framing {
  const { status } = head;
  if (method === "HEAD" || status === 204 || status === 304) return { by: "length", bytes: 0 };
  const codings = listOf(head, "transfer-encoding");
  if (codings.length > 0) {
    if (codings.join() !== "chunked") throw malformed("a transfer coding that was not offered");
    return { by: "chunks" };
  }
  const lengths = new Set(listOf(head, "content-length"));
  const [length] = lengths;
  if (length === undefined) return { by: "close" };
  if (lengths.size > 1 || !/^\d{1,15}$/.test(length))
    throw malformed("its content-length is not a number");
  return { by: "length", bytes: Number(length) };
}

/** The members of a header that is a list, in lower case. */
function listOf({ headers }: AnswerHead, name: string): string[] {
  return headers
    .filter(([own]) => own.toLowerCase() === name)
    .flatMap(([, value]) => value.toLowerCase().split(","))
    .map((member) => member.trim())
    .filter((member) => member !== "");
}

function malformed(what: string): Error {
  return Object.assign(new Error(`the answer is not HTTP/1.1: ${what}`), { code: "EPROTO" });
}

function broken(message: string): Error {
  return Object.assign(new Error(message), { code: "ECONNRESET" });
}
