/** As much HTTP/1.1 as load and engine need, on raw sockets, so that no library's limits count. */

/** What a reader tells of each message, request or answer. */
export interface MessageEvents {
  /** Start line and headers, without the empty line. */
  head(head: string): void;
  /** A piece of the body, without framing. */
  body(bytes: Buffer): void;
  end(): void;
}

export interface MessageReader {
  push(data: Buffer): void;
}

const MAX_HEAD_BYTES = 65_536;
const NEWLINE = 0x0a;

type Reading = "head" | "sized" | "chunk-size" | "chunk" | "chunk-end" | "trailer";

/** Takes messages apart as they arrive, in any split. Throws on what is no HTTP/1.1. */
export function createMessageReader(on: MessageEvents): MessageReader {
  let reading: Reading = "head";
  let left = 0;
  let rest: Buffer | null = null;

  const finish = () => {
    reading = "head";
    on.end();
  };
  const begin = (head: string) => {
    on.head(head);
    if (/^transfer-encoding: *chunked/im.test(head)) {
      reading = "chunk-size";
      return;
    }
    left = Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
    if (left === 0) finish();
    else reading = "sized";
  };
  /** A line, or null when its end is not here yet. */
  const lineFrom = (bytes: Buffer, at: number): { text: string; next: number } | null => {
    const end = bytes.indexOf(NEWLINE, at);
    return end === -1 ? null : { text: bytes.toString("latin1", at, end).trimEnd(), next: end + 1 };
  };
  /** Where to go on, or null when more must come first. */
  const step = (bytes: Buffer, at: number): number | null => {
    switch (reading) {
      case "head": {
        const end = bytes.indexOf("\r\n\r\n", at);
        if (end === -1) {
          if (bytes.length - at > MAX_HEAD_BYTES) throw new Error("a head without end");
          return null;
        }
        begin(bytes.toString("latin1", at, end));
        return end + 4;
      }
      case "sized":
      case "chunk": {
        const end = Math.min(bytes.length, at + left);
        left -= end - at;
        on.body(bytes.subarray(at, end));
        if (left === 0 && reading === "sized") finish();
        else if (left === 0) reading = "chunk-end";
        return end;
      }
      case "chunk-end":
      case "chunk-size":
      case "trailer": {
        const line = lineFrom(bytes, at);
        if (line === null) return null;
        endLine(line.text);
        return line.next;
      }
    }
  };
  const endLine = (text: string) => {
    if (reading === "chunk-end") {
      reading = "chunk-size";
    } else if (reading === "trailer") {
      if (text === "") finish();
    } else {
      left = Number.parseInt(text, 16);
      if (!(left >= 0)) throw new Error(`no chunk size: ${JSON.stringify(text.slice(0, 80))}`);
      reading = left === 0 ? "trailer" : "chunk";
    }
  };
  return {
    push(data) {
      const bytes: Buffer = rest === null ? data : Buffer.concat([rest, data]);
      rest = null;
      let at = 0;
      while (at < bytes.length) {
        const next = step(bytes, at);
        if (next === null) {
          rest = bytes.subarray(at);
          return;
        }
        at = next;
      }
    },
  };
}

/** The part of a socket that a writer needs. */
interface Writable {
  write(data: Buffer | string): number;
}

export interface Writer {
  /** In order; what the socket does not take is kept for `drain`. */
  write(data: Buffer | string): void;
  drain(): void;
  /** What is kept. */
  readonly waitingBytes: number;
}

/** `data` strings must be ASCII. */
export function createWriter(socket: Writable): Writer {
  let waiting: Buffer | null = null;
  return {
    get waitingBytes() {
      return waiting?.length ?? 0;
    },
    write(data) {
      if (waiting !== null) {
        waiting = Buffer.concat([waiting, Buffer.from(data)]);
        return;
      }
      const written = Math.max(0, socket.write(data));
      if (written < data.length) waiting = Buffer.from(data).subarray(written);
    },
    drain() {
      if (waiting === null) return;
      const written = Math.max(0, socket.write(waiting));
      waiting = written < waiting.length ? waiting.subarray(written) : null;
    },
  };
}

/** What a connection tells; `status` comes before the body. */
export interface ConnectionEvents {
  status(code: number): void;
  body(bytes: Buffer): void;
  end(): void;
  /** Closed by the other side or broken; not told after `close`. */
  closed(): void;
}

export interface Connection {
  send(request: Buffer): void;
  close(): void;
}

/** A client's connection to a port of this machine. */
export async function openConnection(port: number, on: ConnectionEvents): Promise<Connection> {
  let isOver = false;
  const reader = createMessageReader({
    head: (head) => on.status(Number(head.slice(9, 12))),
    body: (bytes) => on.body(bytes),
    end: () => on.end(),
  });
  const over = () => {
    if (isOver) return;
    isOver = true;
    on.closed();
  };
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(self, data) {
        if (isOver) return;
        try {
          reader.push(data);
        } catch (error) {
          process.stderr.write(`bad answer: ${String(error)}\n`);
          self.terminate();
          over();
        }
      },
      drain: () => writer.drain(),
      end: over,
      close: over,
      error: over,
    },
  });
  const writer = createWriter(socket);
  socket.setNoDelay(true);
  return {
    send: (request) => writer.write(request),
    close() {
      if (isOver) return;
      isOver = true;
      socket.terminate();
    },
  };
}
