import { expect, test } from "bun:test";
import { makeCertificate } from "../../../src/head/store/certificate.ts";
import { createHttpClient } from "../../../src/util/http/client.ts";
import { waitFor } from "../../helpers/wait.ts";
import { ask, OK, serve, setUp } from "./peer.ts";

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

test("an upload waits for a server that does not read, and ends with the answer", async () => {
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { open: (socket) => socket.pause(), data() {} },
  });
  using client = setUp({ port: listener.port });
  let pulled = 0;
  const isCancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        pulled += 1;
        controller.enqueue(new Uint8Array(64 * 1024));
      },
      cancel: () => isCancelled.resolve(),
    },
    { highWaterMark: 0 },
  );
  const asked = client.start({ body });
  let before = -1;
  await waitFor(async () => {
    const isStill = pulled > 0 && before === pulled;
    before = pulled;
    await Bun.sleep(50);
    return isStill;
  });
  // What the kernel's buffers take, and no more.
  expect(pulled).toBeLessThan(1000);
  asked.exchange.abort();
  await isCancelled.promise;
  expect(asked.calls).toEqual([]);
  listener.stop(true);
});

test("large bodies arrive whole, once", async () => {
  const body = new Uint8Array(3_000_000).map((_, at) => at % 251);
  const bytes = Buffer.from(body).toString("latin1");
  let size = 0;
  using server = serve((socket, text) => {
    size += text.length;
    if (server.received[0]?.endsWith(bytes)) socket.write(OK);
  });
  using client = setUp(server);
  expect((await client.send({ body })).end).toBe("end");
  expect(server.received[0]).toBe(
    `POST /v1/x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:${server.port}\r\nconnection: keep-alive\r\ncontent-length: 3000000\r\n\r\n${bytes}`,
  );
  expect(size).toBeLessThan(3_001_000);
});

test("a connection carries one request after the other; the one used last is next", async () => {
  using server = serve((socket, text) => {
    if (!text.includes("/slow")) socket.write(OK);
    else setTimeout(() => socket.write(OK), 20);
  });
  using client = setUp(server);
  for (let i = 0; i < 3; i += 1) await client.send();
  expect(server.received.length).toBe(1);
  await client.send({ fresh: true });
  expect(server.received.length).toBe(2);
  await Promise.all([client.send({ path: "/slow" }), client.send(), client.send()]);
  expect(server.received.length).toBe(3);
  // From within the call that ends it, too.
  const again = Promise.withResolvers<void>();
  client.at()(
    { method: "GET", path: "/", host: null, fields: "", body: null, length: null, fresh: false },
    {
      head() {},
      data() {},
      fail: again.reject,
      end: () => void client.send().then(() => again.resolve()),
    },
  );
  await again.promise;
  expect(server.received.length).toBe(3);
});

test("free connections are closed after their time, and beyond their number", async () => {
  using server = serve((socket) => socket.write(OK));
  using few = setUp(server, { idleMs: 60_000, maxIdle: 2 });
  await Promise.all([1, 2, 3, 4].map(() => few.send()));
  await waitFor(() => server.open === 2);
  few[Symbol.dispose]();
  await waitFor(() => server.open === 0);
  using client = setUp(server, { idleMs: 80 });
  const upstream = client.at();
  await client.send();
  await waitFor(() => server.open === 0);
  // One that was forgotten is swept as well.
  await Bun.sleep(200);
  expect((await ask(upstream).over).end).toBe("end");
  await waitFor(() => server.open === 0);
});

test("a client that is disposed closes what is free, and what is not once it is", async () => {
  let finish = () => {};
  using server = serve((socket, text) => {
    if (text.includes("/slow")) finish = () => socket.write(OK);
    else socket.write(OK);
  });
  const client = setUp(server);
  const slow = client.start({ path: "/slow" });
  await client.send();
  await waitFor(() => server.received.length === 2 && server.open === 2);
  client[Symbol.dispose]();
  await waitFor(() => server.open === 1);
  finish();
  expect((await slow.over).body).toBe("ok");
  await waitFor(() => server.open === 0);
});

test.each([["reset"], ["end"]] as const)(
  "a kept connection that breaks (%s) before the answer is replaced once",
  async (how) => {
    const body = new Uint8Array([65, 66]);
    let isBroken = false;
    using server = serve((socket, text) => {
      if (text.includes("/last") && (socket.index === 0 || isBroken)) socket[how]();
      else socket.write(OK);
    });
    using client = setUp(server);
    await client.send();
    const answer = await client.send({ path: "/last", body });
    expect([answer.end, answer.body]).toEqual(["end", "ok"]);
    expect(server.received.length).toBe(2);
    expect(server.received[1]).toEndWith("content-length: 2\r\n\r\nAB");
    // The second connection breaks too: that is told.
    isBroken = true;
    expect((await client.send({ path: "/last", body })).end).toMatchObject({ code: "ECONNRESET" });
    expect(server.received.length).toBe(3);
    // A stream is gone once it was sent.
    await client.send();
    expect((await client.send({ path: "/last", body: streamOf("A") })).end).toMatchObject({
      code: "ECONNRESET",
    });
    expect(server.received.length).toBe(4);
    // Nor is one repeated that was the first on its connection.
    expect((await client.send({ path: "/last", body, fresh: true })).end).toMatchObject({
      code: "ECONNRESET",
    });
    expect(server.received.length).toBe(5);
  },
);

test("a server that dies of a request on a kept connection has broken it, not refused it", async () => {
  let stop = () => {};
  const server = serve((socket, text) => {
    if (!text.includes("/deadly")) return socket.write(OK);
    stop();
    socket.reset();
  });
  stop = () => server[Symbol.dispose]();
  using client = setUp(server);
  await client.send();
  expect((await client.send({ path: "/deadly" })).end).toMatchObject({ code: "ECONNRESET" });
  expect((await client.send()).end).toMatchObject({ code: "ECONNREFUSED" });
});

test("an answer that has begun is not asked for again", async () => {
  using server = serve((socket, text) => {
    if (!text.includes("/half")) return socket.write(OK);
    socket.write("H");
    socket.end();
  });
  using client = setUp(server);
  await client.send();
  expect((await client.send({ path: "/half" })).end).toMatchObject({ code: "ECONNRESET" });
  expect(server.received.length).toBe(1);
});

test.each([["a stream"], ["bytes"]])(
  "an answer before the body was sent is passed on, and ends the connection: %s",
  async (kind) => {
    using server = serve((socket, text) => {
      if (!text.startsWith("POST")) return;
      socket.pause();
      socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
    });
    using client = setUp(server);
    const isCancelled = Promise.withResolvers<void>();
    const stream = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(64 * 1024)),
      cancel: () => isCancelled.resolve(),
    });
    const body = kind === "bytes" ? new Uint8Array(64 * 1024 * 1024) : stream;
    const { head, body: text, end } = await client.send({ body });
    expect([head?.status, text, end]).toEqual([413, "big", "end"]);
    if (kind !== "bytes") await isCancelled.promise;
    const received = server.received.length;
    client.start();
    await waitFor(() => server.received.length === received + 1);
  },
);

test("failures carry the system's codes", async () => {
  const gone = serve(() => {});
  gone[Symbol.dispose]();
  using client = setUp(gone);
  expect((await client.send()).end).toMatchObject({ code: "ECONNREFUSED" });
  using http = createHttpClient({ connectTimeoutMs: 100 });
  const end = async (url: string) => (await ask(http.at(url)).over).end;
  expect(await end("no url")).toMatchObject({ code: "ERR_INVALID_URL" });
  expect(await end("http://no-such-host.invalid")).toMatchObject({ code: "ENOTFOUND" });
  // It accepts, and does not speak TLS.
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  expect(await end(`https://127.0.0.1:${silent.port}`)).toMatchObject({ code: "ETIMEDOUT" });
  silent.stop(true);
  using plain = serve((socket) => socket.write("HTTP/1.1 400 Bad\r\n\r\n"));
  expect(await end(`https://127.0.0.1:${plain.port}`)).toMatchObject({ code: "EPROTO" });
});

test("an exchange that is aborted is told no more, wherever it is", async () => {
  using server = serve((socket, text) => {
    if (text.includes("/start")) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab");
    if (text.includes("/whole")) socket.write(OK);
  });
  using client = setUp(server);
  // Before there is a connection, before the answer, and in it.
  const first = client.start();
  first.exchange.abort();
  const second = client.start();
  await waitFor(() => server.received.some((text) => text !== ""));
  second.exchange.abort();
  const third = client.start({ path: "/start" });
  await waitFor(() => third.body === "ab");
  third.exchange.abort();
  await waitFor(() => server.open === 0);
  expect([first.calls, second.calls, third.calls]).toEqual([[], [], ["head", "data"]]);
  // From within a call.
  const calls: string[] = [];
  const exchange = client.at()(
    {
      method: "GET",
      path: "/whole",
      host: null,
      fields: "",
      body: null,
      length: null,
      fresh: false,
    },
    {
      head() {
        calls.push("head");
        exchange.abort();
      },
      data: () => void calls.push("data"),
      end: () => void calls.push("end"),
      fail: () => void calls.push("fail"),
    },
  );
  await waitFor(() => calls.length > 0);
  await waitFor(() => server.open === 0);
  expect(calls).toEqual(["head"]);
  // After the end it does nothing: the connection is another's.
  const ended = await client.send({ path: "/whole" });
  ended.exchange.abort();
  ended.exchange.pause();
  expect((await client.send({ path: "/whole" })).end).toBe("end");
});

test.each(["head", "data", "end"] as const)(
  "a sink that throws in %s ends its exchange, and nothing else",
  async (call) => {
    using server = serve((socket) => socket.write(OK));
    using client = setUp(server);
    const warned: unknown[] = [];
    const onWarning = (warning: unknown) => void warned.push(warning);
    process.on("warning", onWarning);
    const calls: unknown[] = [];
    const fault = new Error("a fault of the test's");
    const note = (name: string) => {
      calls.push(name);
      if (name === call) throw fault;
    };
    client.at()(
      { method: "GET", path: "/", host: null, fields: "", body: null, length: null, fresh: false },
      {
        head: () => note("head"),
        data: () => note("data"),
        end: () => note("end"),
        fail(error) {
          calls.push(error);
          throw new Error("another");
        },
      },
    );
    await waitFor(() => warned.length > 0);
    process.off("warning", onWarning);
    const all = ["head", "data", "end"];
    const begun = all.slice(0, all.indexOf(call) + 1);
    expect(calls).toEqual(call === "end" ? begun : [...begun, fault]);
    await waitFor(() => server.open === (call === "end" ? 1 : 0));
    expect((await client.send()).end).toBe("end");
  },
);

test("an answer that is paused is read no further, and wholly once it is resumed", async () => {
  const total = 64 * 1024 * 1024;
  const piece = new Uint8Array(1024 * 1024).fill(7);
  let produced = 0;
  await using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () =>
      new Response(
        new ReadableStream<Uint8Array>({
          pull(controller) {
            produced += piece.length;
            controller.enqueue(piece);
            if (produced >= total) controller.close();
          },
        }),
      ),
  }) as unknown as AsyncDisposable & { port: number };
  using client = setUp(server);
  let taken = 0;
  let isWhole = false;
  const exchange = client.at()(
    { method: "GET", path: "/", host: null, fields: "", body: null, length: null, fresh: false },
    {
      head: () => exchange.pause(),
      data: (bytes) => void (taken += bytes.length),
      end: () => void (isWhole = true),
      fail() {},
    },
  );
  let before = -1;
  await waitFor(async () => {
    const isStill = produced > 0 && before === produced;
    before = produced;
    await Bun.sleep(50);
    return isStill;
  });
  // What the kernel's buffers hold is not ours; one read of the socket is.
  expect(produced).toBeLessThan(total / 2);
  expect(taken).toBeLessThanOrEqual(512 * 1024);
  exchange.resume();
  await waitFor(() => isWhole);
  expect(taken).toBe(total);
  expect((await client.send({ method: "HEAD" })).end).toBe("end");
});

test("TLS is spoken to https, whoever vouches for the certificate", async () => {
  const tls = await makeCertificate();
  let connections = new Set<number>();
  await using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls,
    async fetch(request, own) {
      connections = connections.add(own.requestIP(request)?.port ?? 0);
      return new Response(`got ${await request.text()}`);
    },
  }) as unknown as AsyncDisposable & { port: number };
  using http = createHttpClient();
  const upstream = http.at(`https://127.0.0.1:${server.port}`);
  for (const size of [1, 300_000, 3_000_000]) {
    const { body } = await ask(upstream, { body: new Uint8Array(size).fill(65) }).over;
    expect(body.length).toBe(size + 4);
  }
  expect(connections.size).toBe(1);
});
