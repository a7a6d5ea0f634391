/** Asks HTTP/1.1 servers: requests and answers as `exchange.ts` has them, over kept connections. */

// Why not fetch: it costs a thread of its own, a promise and two objects of headers for each
// request, its reads run ahead of who takes them (1.8 MB), and at most 256 requests run at once.

import type { Exchange, Upstream } from "./exchange.ts";
import { Pool } from "./pool.ts";
import { Sending } from "./sending.ts";

export interface HttpClient extends Disposable {
  /**
   * To be called for each request: servers that are not asked are forgotten. `http:` or `https:`,
   * host and port; a certificate is not verified.
   */
  at(baseUrl: string): Upstream;
}

export interface HttpClientOptions {
  connectTimeoutMs?: number;
  /** How long a free connection is kept: less than servers keep theirs, uvicorn 5 s. */
  idleMs?: number;
  /** Free connections that are kept; one more is closed. */
  maxIdle?: number;
}

/** A head and a body up to this go out in one piece: a second packet costs the server a second look. */
const ONE_PIECE_BYTES = 64 * 1024;

export function createHttpClient(options: HttpClientOptions = {}): HttpClient {
  const { connectTimeoutMs = 2000, idleMs = 4000, maxIdle = 1024 } = options;
  // What is written is taken by the system, or copied: one memory does for all requests.
  const memory = Buffer.alloc(ONE_PIECE_BYTES);
  const pool = new Pool(
    { connectTimeoutMs, idleMs, maxIdle },
    (origin) => (request, sink) => new Sending(origin, request, { sink, memory }),
  );
  return {
    at(baseUrl) {
      try {
        return pool.origin(baseUrl).upstream;
      } catch (error) {
        return failing(error);
      }
    },
    [Symbol.dispose]: () => pool[Symbol.dispose](),
  };
}

/** For an address that is none. */
function failing(error: unknown): Upstream {
  return (_request, sink): Exchange => {
    let isOver = false;
    queueMicrotask(() => isOver || sink.fail(error));
    return { pause() {}, resume() {}, abort: () => void (isOver = true) };
  };
}
