/** Engines for tests: a server whose every answer the test writes. */

import type { Server } from "bun";

export interface TestEngine extends AsyncDisposable {
  readonly port: number;
  /** Requests that have arrived, newest last. */
  readonly seen: { method: string; path: string; headers: Headers; body: string }[];
  /** Requests whose client has gone. */
  readonly aborted: number;
  readonly active: number;
  /** Cuts every connection and refuses new ones. */
  kill(): void;
}

export type Answer = (
  request: Request,
  body: string,
  signal: AbortSignal,
) => Response | Promise<Response>;

export function startEngine(answer: Answer): TestEngine {
  const seen: TestEngine["seen"] = [];
  let aborted = 0;
  let active = 0;
  const server: Server<undefined> = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    async fetch(request) {
      active += 1;
      request.signal.addEventListener("abort", () => {
        aborted += 1;
      });
      const body = await request.text();
      const url = new URL(request.url);
      seen.push({
        method: request.method,
        path: `${url.pathname}${url.search}`,
        headers: request.headers,
        body,
      });
      try {
        return await answer(request, body, request.signal);
      } finally {
        active -= 1;
      }
    },
    error: () => new Response("the test's answer threw", { status: 500 }),
  });
  return {
    port: server.port ?? 0,
    seen,
    get aborted() {
      return aborted;
    },
    get active() {
      return active;
    },
    kill: () => void server.stop(true),
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

/** A chat answer, whole. */
export function chatAnswer(text: string): Response {
  return Response.json({ choices: [{ index: 0, message: { role: "assistant", content: text } }] });
}

/** A stream of server-sent events that are sent as the iterator gives them. */
export function eventStream(chunks: AsyncIterable<string> | Iterable<string>): Response {
  const encoder = new TextEncoder();
  const iterator =
    Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  return new Response(
    new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      cancel: () => void iterator.return?.(),
    }),
    { headers: { "content-type": "text/event-stream; charset=utf-8" } },
  );
}

/** A server below HTTP: it answers whatever bytes the test says. */
export interface RawEngine extends AsyncDisposable {
  readonly port: number;
  /** Pieces of requests that have arrived; a connection without any was a probe. */
  readonly requests: number;
}

export interface RawSocket {
  write(text: string): void;
  /** Ends the connection in order. */
  end(): void;
  /** Resets it. */
  reset(): void;
}

/** `onRequest` gets each arrived piece of a request with how many have come on that connection. */
export function startRawEngine(
  onRequest: (socket: RawSocket, text: string, count: number) => void,
): RawEngine {
  let requests = 0;
  const server = Bun.listen<{ count: number }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { count: 0 };
      },
      data(socket, data) {
        socket.data.count += 1;
        requests += 1;
        const handle = {
          write: (text: string) => void socket.write(text),
          end: () => void socket.end(),
          reset: () => void socket.terminate(),
        };
        onRequest(handle, data.toString(), socket.data.count);
      },
    },
  });
  return {
    port: server.port,
    get requests() {
      return requests;
    },
    async [Symbol.asyncDispose]() {
      server.stop(true);
    },
  };
}
