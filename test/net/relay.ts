/** A slow line for tests: a TCP relay with a delay and a rate, shared by all its connections. */

import { connect, createServer, type Socket } from "node:net";

export interface SlowLine extends Disposable {
  readonly connections: number;
}

export interface SlowLineOptions {
  from: string;
  to: string;
  ports: readonly number[];
  /** One way. */
  delayMs: number;
  bitsPerSecond: number;
}

/** What may wait before the line in one connection, in bytes. */
const WAITING_BYTES = 64 * 1024;

export async function openSlowLine(options: SlowLineOptions): Promise<SlowLine> {
  const sockets = new Set<Socket>();
  let connections = 0;
  /** When each direction of the line has sent what it was given. */
  const freeAt = { up: 0, down: 0 };

  const pass = (source: Socket, sink: Socket, way: "up" | "down") => {
    let waiting = 0;
    // In order whatever the timers do: theirs are whole milliseconds, and two may change places.
    const due: (() => void)[] = [];
    const later = (bytes: number, act: () => void) => {
      const now = performance.now();
      freeAt[way] = Math.max(now, freeAt[way]) + (bytes * 8000) / options.bitsPerSecond;
      due.push(act);
      setTimeout(() => due.shift()?.(), freeAt[way] - now + options.delayMs);
    };
    source.on("data", (chunk: Buffer) => {
      waiting += chunk.length;
      if (waiting > WAITING_BYTES) source.pause();
      later(chunk.length, () => {
        waiting -= chunk.length;
        if (!sink.destroyed) sink.write(chunk);
        if (waiting <= WAITING_BYTES) source.resume();
      });
    });
    source.on("end", () => later(0, () => sink.end()));
    source.on("error", () => sink.destroy());
    source.on("close", () => sockets.delete(source));
  };
  const servers = options.ports.map((port) =>
    createServer({ allowHalfOpen: true }, (near) => {
      connections += 1;
      const far = connect({ host: options.to, port, allowHalfOpen: true });
      for (const socket of [near, far]) sockets.add(socket.setNoDelay(true));
      pass(near, far, "up");
      pass(far, near, "down");
    }),
  );
  for (const [i, server] of servers.entries()) {
    const listening = Promise.withResolvers<void>();
    server.once("error", listening.reject);
    server.listen(options.ports[i], options.from, listening.resolve);
    await listening.promise;
  }
  return {
    get connections() {
      return connections;
    },
    [Symbol.dispose]() {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
