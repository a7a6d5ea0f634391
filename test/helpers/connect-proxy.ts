/** An HTTP proxy that knows CONNECT, and how to fail at it. */

import net from "node:net";

export interface ConnectProxy extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** What was asked for, such as `127.0.0.1:8093`, in order. */
  readonly asked: string[];
  /** The Proxy-Authorization of each. */
  readonly shown: (string | null)[];
  /** Connections that are open now. */
  readonly open: number;
  /** Answers from now on; null: does what it is asked. */
  answer: Answer | null;
  /** Breaks every connection. */
  cut(): void;
}

/** A text is sent and the connection closed after it; "silent" never answers. */
export type Answer = { text: string } | "silent";

export async function startConnectProxy(port = 0): Promise<ConnectProxy> {
  const sockets = new Set<net.Socket>();
  const asked: string[] = [];
  const shown: (string | null)[] = [];
  const keep = (socket: net.Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
  };
  const server = net.createServer((client) => {
    keep(client);
    let head = "";
    const onData = (chunk: Buffer) => {
      head += chunk.toString("latin1");
      if (!head.includes("\r\n\r\n")) return;
      client.off("data", onData);
      const target = /^CONNECT (\S+) HTTP\/1\.1\r\n/.exec(head)?.[1] ?? "";
      asked.push(target);
      shown.push(/\r\nProxy-Authorization: (.+)\r\n/i.exec(head)?.[1] ?? null);
      if (proxy.answer === "silent") return;
      if (proxy.answer !== null) return void client.end(proxy.answer.text);
      const at = target.lastIndexOf(":");
      const host = target.slice(0, at).replace(/^\[|\]$/g, "");
      const upstream = net.connect({ host, port: Number(target.slice(at + 1)) });
      keep(upstream);
      upstream.on("connect", () => {
        client.write("HTTP/1.1 200 Connection established\r\n\r\n");
        upstream.pipe(client);
        client.pipe(upstream);
      });
      upstream.on("close", () => client.destroy());
      client.on("close", () => upstream.destroy());
    };
    client.on("data", onData);
  });
  const listening = Promise.withResolvers<void>();
  server.listen(port, "127.0.0.1", listening.resolve);
  await listening.promise;
  const bound = server.address();
  const number = typeof bound === "object" && bound !== null ? bound.port : 0;
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const proxy: ConnectProxy = {
    url: `http://127.0.0.1:${number}`,
    port: number,
    asked,
    shown,
    get open() {
      return sockets.size;
    },
    answer: null,
    cut,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      cut();
      await closed.promise;
    },
  };
  return proxy;
}
