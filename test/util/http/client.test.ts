import { expect, test } from "bun:test";
import { createHttpClient, type HttpClientOptions } from "../../../src/util/http/client.ts";
import type {
  AnswerHead,
  Exchange,
  HttpRequest,
  Upstream,
} from "../../../src/util/http/exchange.ts";
import { waitFor } from "../../helpers/wait.ts";

interface Server extends Disposable {
  port: number;
  /** What each connection has sent. */
  received: string[];
  open: number;
}

interface Peer {
  write(text: string): void;
  end(): void;
  /** Which connection it is, from 0 on. */
  index: number;
}

/** Answers each piece that arrives by what the test writes. */
function serve(answer: (peer: Peer, text: string) => void): Server {
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
        const peer = { write, end: () => void socket.end(), index: socket.data.index };
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
interface Asked {
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

function ask(upstream: Upstream, request: Partial<HttpRequest> = {}): Asked {
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

function setUp(server: { port: number }, options: HttpClientOptions = {}) {
  const client = createHttpClient(options);
  const upstream = () => client.at(`http://127.0.0.1:${server.port}`);
  return {
    start: (request: Partial<HttpRequest> = {}) => ask(upstream(), request),
    /** Until its end. */
    send: (request: Partial<HttpRequest> = {}) => ask(upstream(), request).over,
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

test.each([
  ["by its length", "content-length: 5\r\n\r\nhello", true],
  ["by one length said twice", "content-length: 5, 5\r\ncontent-length: 5\r\n\r\nhello", true],
  [
    "in chunks",
    "transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nt: 1\r\n\r\n",
    true,
  ],
  ["until the end", "\r\nhello", false],
  ["by its length, and then the end", "connection: close\r\ncontent-length: 5\r\n\r\nhello", false],
])("a body that is told %s", async (_, rest, isKept) => {
  using server = serve((socket) => {
    socket.write(
      `HTTP/1.1 201 Created\r\nX-Own: a\xe9 \r\nset-cookie: a\r\nset-cookie:b\r\n${rest}`,
    );
    if (!isKept) socket.end();
  });
  using client = setUp(server);
  for (let i = 0; i < 2; i += 1) {
    const answer = await client.send();
    expect(answer.head?.status).toBe(201);
    expect(answer.head?.fields.slice(0, 3)).toEqual([
      ["x-own", "a\xe9"],
      ["set-cookie", "a"],
      ["set-cookie", "b"],
    ]);
    expect(answer.body).toBe("hello");
    expect(answer.calls).toEqual(["head", "data", "end"]);
    expect(answer.sizes).toEqual([5]);
  }
  expect(server.received.length).toBe(isKept ? 1 : 2);
});

test("answers without a body end with their head, and announcements are passed over", async () => {
  const heads = ["204 No Content", "304 Not Modified"];
  using server = serve((socket, text) => {
    if (text.startsWith("HEAD"))
      return socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    socket.write(
      `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 ${heads.shift()}\r\n\r\n`,
    );
  });
  using client = setUp(server);
  for (const status of [204, 304]) {
    const { head, calls } = await client.send();
    expect([head?.status, head?.fields, calls]).toEqual([status, [], ["head", "end"]]);
  }
  expect((await client.send({ method: "HEAD" })).calls).toEqual(["head", "end"]);
  expect(server.received.length).toBe(1);
});

test("what is sent is one request, in one piece", async () => {
  using server = serve((socket) => socket.write(OK));
  using client = setUp(server);
  const body = new Uint8Array([65, 66]);
  await client.send({ fields: "x: \xe9\r\n", body });
  await client.send({ method: "GET", path: "/", host: "other" });
  await client.send({});
  const at = `host: 127.0.0.1:${server.port}\r\nconnection: keep-alive\r\n`;
  expect(server.received.join("")).toBe(
    `POST /v1/x?y=1 HTTP/1.1\r\n${at}x: \xe9\r\ncontent-length: 2\r\n\r\nAB` +
      "GET / HTTP/1.1\r\nhost: other\r\nconnection: keep-alive\r\n\r\n" +
      `POST /v1/x?y=1 HTTP/1.1\r\n${at}content-length: 0\r\n\r\n`,
  );
});

test.each([
  ["a path with a space", { path: "/a b" }],
  ["a path with a line", { path: "/a\r\nx: y" }],
  ["a path of two bytes a character", { path: "/\u010a" }],
  ["a path without a slash", { path: "*" }],
  ["an empty line in the fields", { fields: "a: b\r\n\r\nGET /" }],
  ["a line without its end", { fields: "a: b" }],
  ["a bare line feed", { fields: "a: b\nc: d\r\n" }],
  ["a bare carriage return", { fields: "a: b\rc: d\r\n" }],
  ["characters that become a line", { fields: "a: b\u010d\u010ac: d\r\n" }],
  ["a folded field", { fields: "a: b\r\n c\r\n" }],
  ["a host with a line", { host: "a\r\nb: c" }],
  ["a method with a space", { method: "GET /x" }],
])("what would be another request is not sent: %s", async (_, request) => {
  using server = serve((socket) => socket.write(OK));
  using client = setUp(server);
  const { end, calls } = await client.send(request);
  expect(calls).toEqual(["fail"]);
  expect(end).toMatchObject({ code: "EINVAL", message: expect.stringContaining("of a request") });
  const early = client.start(request);
  early.exchange.abort();
  await client.send();
  expect([early.calls, server.received.length]).toEqual([[], 1]);
});

function streamOf(...pieces: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else controller.enqueue(Buffer.from(piece));
    },
  });
}

test("streamed bodies go by their length where it is known, otherwise in chunks", async () => {
  using server = serve((socket, text) => {
    if (/ABC$|0\r\n\r\n$|C$/.test(text)) socket.write(OK);
  });
  using client = setUp(server);
  const body = () => streamOf("A", "", "BC");
  await client.send({ body: body(), length: 3 });
  await client.send({ body: body() });
  expect(server.received[0]).toContain("content-length: 3\r\n\r\nABCPOST");
  expect(server.received[0]).toEndWith(
    "transfer-encoding: chunked\r\n\r\n1\r\nA\r\n2\r\nBC\r\n0\r\n\r\n",
  );
  for (const length of [2, 4]) {
    const { end } = await client.send({ body: body(), length, fresh: true });
    expect(end).toMatchObject({ message: `a body of ${length} bytes was to be sent` });
  }
  await waitFor(() => server.open === 1);
  expect(server.received[1]).not.toContain("ABC");
  expect(server.received[2]).toEndWith("ABC");
});
