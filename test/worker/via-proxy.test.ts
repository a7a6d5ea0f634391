import { expect, test } from "bun:test";
import net from "node:net";
import { startViaProxy, type ViaProxySettings } from "../../src/worker/via-proxy.ts";
import { FAST, startTestHead } from "../helpers/cluster.ts";
import { type ConnectProxy, startConnectProxy } from "../helpers/connect-proxy.ts";
import { startTestWorker, tempDir } from "../helpers/worker.ts";
import { waitFor } from "../helpers/wait.ts";

const CHAT = "/v1/chat/completions";
const linesWith = (lines: string[], text: string) => lines.filter((line) => line.includes(text));

/** A server that greets, and sends everything back. */
async function startEcho(): Promise<AsyncDisposable & { address: { host: string; port: number } }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.write("hello ");
    socket.pipe(socket);
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", listening.resolve);
  await listening.promise;
  const bound = server.address();
  return {
    address: {
      host: "127.0.0.1",
      port: typeof bound === "object" && bound !== null ? bound.port : 0,
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      await closed.promise;
    },
  };
}

/** What comes back through a port of this machine until it closes; never rejects. */
function exchange(address: { host: string; port: number }, sent: string, enough = Infinity) {
  const { promise, resolve } = Promise.withResolvers<string>();
  const socket = net.connect(address, () => socket.write(sent));
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString();
    if (text.length >= enough) socket.end();
  });
  socket.on("error", () => socket.destroy());
  socket.on("close", () => resolve(text));
  return promise;
}

test("bytes go through both ways, early and large ones too", async () => {
  await using echo = await startEcho();
  await using proxy = await startConnectProxy();
  await using via = startViaProxy({ proxy: new URL(proxy.url) });
  const passage = via.to(echo.address);
  expect(via.to({ ...echo.address })).toBe(passage);
  const large = "x".repeat(5_000_000);
  const back = await exchange(passage.address, large, large.length + 6);
  expect(back.length).toBe(large.length + 6);
  expect(back.slice(0, 8)).toBe("hello xx");
  expect(proxy.asked).toEqual([`127.0.0.1:${echo.address.port}`]);
  expect(passage.problem()).toBeNull();
  await waitFor(() => proxy.open === 0, { what: "everything to be closed" });
});

test("credentials go to the proxy, decoded, and nowhere else", async () => {
  await using proxy = await startConnectProxy();
  proxy.answer = { text: "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n" };
  const url = new URL(`http://jo:p%40ss%2Fw@127.0.0.1:${proxy.port}`);
  await using via = startViaProxy({ proxy: url });
  const passage = via.to({ host: "head.example.org", port: 8093 });
  await exchange(passage.address, "secret words");
  expect(proxy.asked).toEqual(["head.example.org:8093"]);
  expect(proxy.shown).toEqual([`Basic ${btoa("jo:p@ss/w")}`]);
  expect(passage.problem()).toMatch(
    /^the proxy http:\/\/\*\*\*@127.0.0.1:\d+ does not accept the credentials \(407 Proxy Auth.*\)/,
  );
  expect(passage.problem()).not.toMatch(/jo|p@ss|p%40/);
});

test("an IPv6 head is asked for in brackets", async () => {
  await using proxy = await startConnectProxy();
  proxy.answer = { text: "HTTP/1.1 403 No\r\n\r\n" };
  await using via = startViaProxy({ proxy: new URL(proxy.url) });
  await exchange(via.to({ host: "2001:db8::1", port: 8093 }).address, "");
  expect(proxy.asked).toEqual(["[2001:db8::1]:8093"]);
});

const FAILURES: [string, ConnectProxy["answer"], RegExp][] = [
  [
    "refuses",
    { text: "HTTP/1.1 403 Forbidden\r\nx: y\r\n\r\n" },
    /^the proxy \S+ refuses a connection to 127.0.0.1:1 \(403 Forbidden\)$/,
  ],
  [
    "wants credentials",
    { text: "HTTP/1.0 407 Authenticate\r\n\r\n" },
    /^the proxy \S+ wants credentials \(407 Authenticate\): --via-proxy http:/,
  ],
  [
    "cannot reach the head",
    { text: "HTTP/1.1 502 Bad\u001b[31m Gateway\r\n\r\n" },
    /\(502 Bad.*\)$/,
  ],
  ["is none", { text: "SSH-2.0-OpenSSH\r\n\r\n" }, /^\S+ does not answer like an HTTP proxy$/],
  [
    "never ends its answer",
    { text: "x".repeat(40_000) },
    /^\S+ does not answer like an HTTP proxy$/,
  ],
  ["closes at once", { text: "" }, /^the proxy \S+ closed the connection$/],
  [
    "closes after its word",
    { text: "HTTP/1.1 200 OK\r\n\r\n" },
    /^the proxy \S+ closed its connection to 127.0.0.1:1 before anything came back$/,
  ],
  ["is silent", "silent", /^the proxy \S+ does not answer$/],
];

test.each(FAILURES)("a proxy that %s is told of in words, once", async (_, answer, expected) => {
  await using proxy = await startConnectProxy();
  proxy.answer = answer;
  const settings: Partial<ViaProxySettings> = { connectTimeoutMs: 100 };
  await using via = startViaProxy({ proxy: new URL(proxy.url), settings });
  const told: string[] = [];
  const passage = via.to({ host: "127.0.0.1", port: 1 }, (problem) => told.push(problem));
  expect(await exchange(passage.address, "hello")).toBe("");
  await exchange(passage.address, "hello");
  expect(passage.problem()).toMatch(expected);
  expect(passage.problem()).not.toContain("\u001b");
  expect(told).toEqual([passage.problem() ?? ""]);
});

test("a proxy that is away is told of, and a success takes the problem back", async () => {
  await using echo = await startEcho();
  const away = await startConnectProxy();
  const { port, url } = away;
  await away[Symbol.asyncDispose]();
  await using via = startViaProxy({ proxy: new URL(url) });
  const passage = via.to(echo.address);
  await exchange(passage.address, "hello");
  expect(passage.problem()).toBe(`cannot reach the proxy ${url}: connection refused`);
  await using _proxy = await startConnectProxy(port);
  expect(await exchange(passage.address, "you", 9)).toBe("hello you");
  expect(passage.problem()).toBeNull();
});

test("connections have a limit, and all end with the relay", async () => {
  await using echo = await startEcho();
  await using proxy = await startConnectProxy();
  const via = startViaProxy({ proxy: new URL(proxy.url), settings: { maxConnections: 2 } });
  const passage = via.to(echo.address);
  const two = [exchange(passage.address, "a"), exchange(passage.address, "b")];
  await waitFor(() => proxy.asked.length === 2);
  expect(await exchange(passage.address, "c")).toBe("");
  expect(proxy.asked).toHaveLength(2);
  await via[Symbol.asyncDispose]();
  await Promise.all(two);
  await waitFor(() => proxy.open === 0);
});

test("a worker's session and lanes go through the proxy, to the head's own key", async () => {
  using dir = tempDir();
  await using proxy = await startConnectProxy();
  await using head = await startTestHead(FAST, { tls: true });
  await using joined = await startTestWorker(head, dir.path, {
    // A name, which the proxy resolves for the session and for the lanes.
    head: { host: "localhost", port: head.head.sessionAddress.port },
    insecure: false,
    data: "lane",
    viaProxy: new URL(proxy.url),
  });
  await head.ready("m");
  const question = { model: "m", messages: [{ role: "user", content: "x" }] };
  const response = await head.post(CHAT, question);
  expect(response.status).toBe(200);
  const row = (await head.status()).workers[0];
  expect(row?.route).toBe("lane");
  const session = `localhost:${head.head.sessionAddress.port}`;
  expect(proxy.asked).toContain(session);
  expect(new Set(proxy.asked).size).toBe(2);
  expect(proxy.asked.every((target) => target.startsWith("localhost:"))).toBe(true);
  expect(linesWith(joined.log, "joined")[0]).toContain(session);

  // All is cut, and the proxy refuses for a while: the reason is told once, and it comes back.
  proxy.answer = { text: "HTTP/1.1 403 Forbidden\r\n\r\n" };
  proxy.cut();
  await waitFor(() => linesWith(joined.log, "refuses a connection to").length > 0);
  const asked = proxy.asked.length;
  await waitFor(() => proxy.asked.length > asked + 3, { what: "more tries" });
  const told = linesWith(joined.log, `cannot reach the head at ${session}: the proxy http://`);
  expect(told).toHaveLength(1);
  proxy.answer = null;
  await waitFor(() => linesWith(joined.log, "joined").length === 2);
  await waitFor(async () => {
    const again = await head.post(CHAT, question);
    await again.text();
    return again.status === 200;
  });
});
