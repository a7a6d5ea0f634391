import { expect, test } from "bun:test";
import fc from "fast-check";
import { systemCode } from "../../../src/protocol/errors.ts";
import { AnswerReader } from "../../../src/util/http/answer.ts";
import { waitFor } from "../../helpers/wait.ts";
import { OK, type Peer, serve, setUp } from "./peer.ts";

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

test.each([
  ["no status", "hello\r\n\r\n"],
  ["HTTP/2", "HTTP/2 200 OK\r\n\r\n"],
  ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"],
  ["a status above 599", "HTTP/1.1 600 OK\r\n\r\n"],
  ["another protocol", "HTTP/1.1 101 Switching\r\n\r\n"],
  ["a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
  ["a name with a space", "HTTP/1.1 200 OK\r\na : x\r\n\r\n"],
  ["a line without a colon", "HTTP/1.1 200 OK\r\na\r\n\r\n"],
  ["a value with a zero", "HTTP/1.1 200 OK\r\na: \0\r\n\r\n"],
  ["a value with a bare return", "HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n"],
  ["a folded header", "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"],
  ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"],
  ["two lengths in one", "HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n"],
  ["a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"],
  ["a length of nothing", "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n"],
  ["a length beyond numbers", `HTTP/1.1 200 OK\r\ncontent-length: ${"9".repeat(16)}\r\n\r\n`],
  ["an unknown coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"],
  ["a head without an end", `HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(12_000)}`],
  ["a head of 1 MB", `HTTP/1.1 200 OK\r\na: ${"b".repeat(1_000_000)}\r\n\r\n`],
  ["announcements without an end", "HTTP/1.1 103 Early\r\nlink: x\r\n\r\n".repeat(3000)],
])("an answer that is no HTTP/1.1 is refused: %s", async (_, text) => {
  using server = serve((socket) => socket.write(text));
  using client = setUp(server);
  const { calls, end } = await client.send();
  expect([calls, end]).toEqual([["fail"], expect.objectContaining({ code: "EPROTO" })]);
  await waitFor(() => server.open === 0);
});

test.each([
  ["a chunk without a size", "x\r\n", "EPROTO"],
  ["a chunk of 2^60", "1000000000000000\r\nabc", "EPROTO"],
  ["a chunk that is too long", "1\r\nabc\r\n", "EPROTO"],
  ["an endless size", "1".repeat(9000), "EPROTO"],
  ["an endless extension", `1;${"x".repeat(9000)}`, "EPROTO"],
  ["a bare return behind a size", "1\rx\nabc", "EPROTO"],
  ["an endless trailer", `0\r\n${"a: b\r\n".repeat(20_000)}\r\n`, "EPROTO"],
  ["an early end", "5\r\nab", "ECONNRESET"],
  ["an end between chunks", "", "ECONNRESET"],
])("what had come before the break is passed on: %s", async (_, text, code) => {
  using server = serve((socket) => {
    socket.write(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n${text}`);
    socket.end();
  });
  using client = setUp(server);
  const { calls, body, end } = await client.send();
  expect([calls, end]).toEqual([["head", "data", "fail"], expect.objectContaining({ code })]);
  expect(body).toStartWith("ok");
});

test.each([
  ["at once", ""],
  ["within the head", "HTTP/1.1 200 OK\r\na: "],
  ["behind an announcement", "HTTP/1.1 103 Early\r\n\r\n"],
  ["between head and body", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"],
  ["within the body", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"],
])("a server that closes %s has broken the connection", async (_, text) => {
  using server = serve((socket) => {
    socket.write(text);
    socket.end();
  });
  using client = setUp(server);
  expect((await client.send()).end).toMatchObject({ code: "ECONNRESET" });
  expect(server.received.length).toBe(1);
});

test.each([
  ["the answer to nothing", `${OK}${OK}`],
  ["one byte", `${OK}\n`],
  [
    "bytes behind chunks",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
  ],
  ["a body where there is none", "HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nok"],
  [
    "two framings",
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
  ],
  ["HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"],
  [
    "chunks in HTTP/1.0",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
  ],
  [
    "close among its options",
    "HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok",
  ],
])("a connection is not used again after %s", async (_, text) => {
  using server = serve((socket) => socket.write(text));
  using client = setUp(server);
  for (let i = 0; i < 2; i += 1) {
    const { body, end } = await client.send();
    expect([text.includes("204") ? "ok" : body, end]).toEqual(["ok", "end"]);
  }
  expect(server.received.length).toBe(2);
});

test("HTTP/1.0 that keeps the connection is kept; bytes that come unasked close it", async () => {
  const peers: Peer[] = [];
  using server = serve((socket) => {
    peers.push(socket);
    socket.write("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 2\r\n\r\nok");
  });
  using client = setUp(server, { idleMs: 60_000 });
  for (let i = 0; i < 2; i += 1) await client.send();
  expect(server.received.length).toBe(1);
  peers[0]?.write(OK.replace("ok", "no"));
  await waitFor(() => server.open === 0);
  expect((await client.send()).body).toBe("ok");
  expect(server.received.length).toBe(2);
});

/** All that a reader tells of an answer that comes in these pieces. */
function read(pieces: readonly Uint8Array[], method = "GET") {
  const seen: unknown[] = [];
  const sizes: number[] = [];
  let body = "";
  const views: Uint8Array[] = [];
  const reader = new AnswerReader(method, {
    onHead: ({ status, fields }) => seen.push([status, fields]),
    onBody(bytes) {
      views.push(bytes);
      sizes.push(bytes.length);
      body += Buffer.from(bytes).toString("latin1");
    },
    onEnd: (reusable) => seen.push(reusable),
  });
  try {
    // The reader moves parts of what it is given.
    for (const piece of pieces) reader.push(Buffer.from(piece));
    reader.finish();
  } catch (error) {
    seen.push(systemCode(error));
  }
  // What was passed on does not change afterwards.
  expect(Buffer.concat(views).toString("latin1")).toBe(body);
  return { seen, sizes, body };
}

test("an answer means the same however it is cut", () => {
  const whole = Buffer.from(
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\nTransfer-Encoding: Chunked\n\r\n" +
      "3\r\nabc\r\nA;ext\r\n0123456789\r\n0\r\nt: u\r\n\r\n",
  );
  const expected = { seen: read([whole]).seen, body: "abc0123456789" };
  expect(expected.seen.at(-1)).toBe(true);
  for (let at = 1; at < whole.length; at += 1) {
    expect(read([whole.subarray(0, at), whole.subarray(at)])).toMatchObject(expected);
  }
  fc.assert(
    fc.property(fc.array(fc.nat(whole.length), { maxLength: 30 }), (cuts) => {
      const ends = [0, ...cuts.sort((a, b) => a - b), whole.length];
      const pieces = ends.slice(1).map((end, i) => whole.subarray(ends[i], end));
      expect(read(pieces)).toMatchObject(expected);
    }),
  );
});

test("small chunks that come in one read are one piece, and large ones are not moved", () => {
  const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
  const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  const [small, large] = ["data: x\n\n", "y".repeat(20_000)];
  const texts = [small, small, large, small, small, large];
  const { sizes, body } = read([Buffer.from(`${head}${texts.map(chunk).join("")}0\r\n\r\n`)]);
  expect(sizes).toEqual([18, 20_018, 20_000]);
  expect(body).toBe(texts.join(""));
});

test("a body in one read is a part of it, not a copy", () => {
  const bytes = Buffer.from("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  const more = Buffer.from("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
  const rest = Buffer.alloc(9);
  const views: Uint8Array[] = [];
  const on = { onHead() {}, onBody: (view: Uint8Array) => void views.push(view), onEnd() {} };
  new AnswerReader("GET", on).push(bytes);
  const reader = new AnswerReader("GET", on);
  reader.push(more);
  reader.push(rest);
  expect(views[0]?.buffer).toBe(bytes.buffer);
  expect(views[1]).toBe(rest);
});

test("random bytes are refused or wait for more; nothing else happens", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, begins) => {
      const start = begins ? "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" : "";
      const { seen } = read([Buffer.concat([Buffer.from(start), bytes])]);
      expect(["EPROTO", "ECONNRESET", true, false]).toContain(seen.at(-1) as string);
    }),
  );
});

test("a head that comes byte by byte, or has all lines there may be, is read in time", () => {
  const line = "a: b\r\n";
  const head = `HTTP/1.1 200 OK\r\n${line.repeat(10_000)}content-length: 0\r\n\r\n`;
  const bytes = Buffer.from(head);
  expect(read([bytes]).seen.at(-1)).toBe(true);
  const pieces = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  expect(read(pieces).seen.at(-1)).toBe(true);
}, 10_000);
