/** An engine that sends an answer in exactly the pieces that a test wants. */

import net from "node:net";

export interface PieceEngine extends AsyncDisposable {
  readonly port: number;
  /** What the next answers consist of. */
  pieces: readonly Uint8Array[];
}

/** Each piece is an HTTP chunk of its own, sent in its own turn of the event loop. */
export async function startPieceEngine(contentType: string): Promise<PieceEngine> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => void sockets.delete(socket));
    socket.on("close", () => void sockets.delete(socket));
    socket.on("data", () => void send(socket, contentType, engine.pieces));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const engine: PieceEngine = {
    port: typeof address === "object" ? (address?.port ?? 0) : 0,
    pieces: [],
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  };
  return engine;
}

async function send(
  socket: net.Socket,
  contentType: string,
  pieces: readonly Uint8Array[],
): Promise<void> {
  socket.write(
    `HTTP/1.1 200 OK\r\ncontent-type: ${contentType}\r\ntransfer-encoding: chunked\r\n\r\n`,
  );
  for (const piece of pieces) {
    if (piece.length === 0) continue;
    const size = Buffer.from(`${piece.length.toString(16)}\r\n`);
    socket.write(Buffer.concat([size, piece, Buffer.from("\r\n")]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write("0\r\n\r\n");
}
