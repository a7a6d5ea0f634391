/** Servers that write what a test has them write, and a client whose calls are noted in order. */

import { createHttpClient, type HttpClientOptions } from "../../../src/util/http/client.ts";
import type {
  AnswerHead,
  Exchange,
  HttpRequest,
  Upstream,
} from "../../../src/util/http/exchange.ts";

export interface Server extends Disposable {
  port: number;
  /** What each connection has sent. */
  received: string[];
  open: number;
}

export interface Peer {
  write(text: string): void;
  end(): void;
  reset(): void;
  pause(): void;
  /** Which connection it is, from 0 on. */
  index: number;
}

/** Answers each piece that arrives by what the test writes. */
export function serve(answer: (peer: Peer, text: string) => void): Server {
  const state = { received: [] as string[], open: 0 };
  const listener = Bun.listen<{ index: number }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { index: state.received.push("") - 1 };
        state.open += 1;
      },
      data(socket, data) {
        state.received[socket.data.index] += data.toString("latin1");
        const write = (text: string) => void socket.write(Buffer.from(text, "latin1"));
        const peer: Peer = {
          write,
          end: () => void socket.end(),
          reset: () => void socket.terminate(),
          pause: () => void socket.pause(),
          index: socket.data.index,
        };
        answer(peer, data.toString("latin1"));
      },
      close() {
        state.open -= 1;
      },
    },
  });
  return Object.defineProperties(
    {
      port: listener.port,
      received: state.received,
      [Symbol.dispose]: () => listener.stop(true),
    } as unknown as Server,
    { open: { get: () => state.open } },
  );
}

/** What a sink was called with, in order. */
export interface Asked {
  exchange: Exchange;
  head: AnswerHead | null;
  body: string;
  /** Sizes of the calls with data. */
  sizes: number[];
  /** Null: still under way. */
  end: "end" | { code?: unknown; message: string } | null;
  calls: string[];
  over: Promise<Asked>;
}

export function ask(upstream: Upstream, request: Partial<HttpRequest> = {}): Asked {
  const asked: Asked = {
    exchange: null as never,
    head: null,
    body: "",
    sizes: [],
    end: null,
    calls: [],
    over: null as never,
  };
  const settled = Promise.withResolvers<Asked>();
  asked.over = settled.promise;
  const note = (call: string) => {
    if (asked.exchange === null) throw new Error(`${call} within the call that sends`);
    if (asked.end !== null) throw new Error(`${call} after the end`);
    if (asked.calls.at(-1) !== call) asked.calls.push(call);
  };
  asked.exchange = upstream(
    {
      method: "POST",
      path: "/v1/x?y=1",
      host: null,
      fields: "",
      body: null,
      length: null,
      fresh: false,
      ...request,
    },
    {
      head(head) {
        note("head");
        asked.head = head;
      },
      data(bytes) {
        note("data");
        asked.sizes.push(bytes.length);
        asked.body += Buffer.from(bytes).toString("latin1");
      },
      end() {
        note("end");
        asked.end = "end";
        settled.resolve(asked);
      },
      fail(error) {
        note("fail");
        asked.end = error as Error;
        settled.resolve(asked);
      },
    },
  );
  return asked;
}

export function setUp(server: { port: number }, options: HttpClientOptions = {}) {
  const client = createHttpClient(options);
  const upstream = () => client.at(`http://127.0.0.1:${server.port}`);
  return {
    at: upstream,
    start: (request: Partial<HttpRequest> = {}) => ask(upstream(), request),
    /** Until its end. */
    send: (request: Partial<HttpRequest> = {}) => ask(upstream(), request).over,
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

export const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
