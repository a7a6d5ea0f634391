import { expect, test } from "bun:test";
import { connect, type Socket } from "node:net";
import { ClientStream } from "../../../src/proxy/answer/client-stream.ts";
import { waitFor } from "../../helpers/wait.ts";

/** A server whose every answer is a stream that the test writes to. */
function startServer() {
  const told: string[] = [];
  let opened = Promise.withResolvers<ClientStream>();
  const server = Bun.serve({
    port: 0,
    development: false,
    hostname: "127.0.0.1",
    async fetch(request) {
      const ms = Number(new URL(request.url).searchParams.get("after") ?? 0);
      const stream = new ClientStream({
        onDrained: () => void told.push("drained"),
        onLeft: () => void told.push("left"),
      });
      opened.resolve(stream);
      if (ms > 0) await Bun.sleep(ms);
      return new Response(stream.body, { headers: { "content-type": "text/event-stream" } });
    },
  });
  return {
    told,
    url: `http://127.0.0.1:${server.port}/`,
    /** The stream of the request that is made next. */
    next() {
      opened = Promise.withResolvers<ClientStream>();
      return opened.promise;
    },
    /** Asks by a socket of its own. */
    ask(path = "/"): Socket {
      const socket = connect(server.port ?? 0, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
      return socket;
    },
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

const bytes = (text: string) => new TextEncoder().encode(text);

test("what is written before and after the server asks arrives, each piece at once", async () => {
  await using server = startServer();
  const opening = server.next();
  const answer = fetch(server.url);
  const stream = await opening;
  stream.write(bytes("one "));
  stream.write(bytes("two "));
  const reader = (await answer).body?.getReader();
  let text = "";
  while (text !== "one two ") text += Buffer.from((await reader?.read())?.value ?? []).toString();
  stream.write(bytes("three"));
  expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe("three");
  stream.end();
  expect((await reader?.read())?.done).toBe(true);
  expect(stream.write(bytes("x"))).toBe(true);
  expect(server.told).toEqual([]);
});

/** All that comes until the connection is closed or the answer ends. */
function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let got = "";
    socket.on("close", () => resolve(got));
    socket.on("data", (data) => {
      got += data.toString();
      if (got.endsWith("0\r\n\r\n")) socket.destroy();
    });
  });
}

test.each(["/", "/?after=20"])("%s: a break is no end", async (path) => {
  await using server = startServer();
  for (const isBroken of [false, true]) {
    const opening = server.next();
    const answer = readAll(server.ask(path));
    const stream = await opening;
    stream.write(bytes("all"));
    // With a pause: after the server has asked for the answer.
    if (path === "/") await Bun.sleep(5);
    if (isBroken) stream.fail(new Error("broken"));
    else stream.end();
    const text = await answer;
    expect([text.includes("all"), text.endsWith("0\r\n\r\n")]).toEqual([true, !isBroken]);
  }
});

test("a client that leaves is told once, whether the answer has begun or not", async () => {
  await using server = startServer();
  for (const path of ["/", "/?after=100"]) {
    server.told.length = 0;
    const opening = server.next();
    const socket = server.ask(path);
    const stream = await opening;
    stream.write(bytes("x"));
    if (path === "/") await new Promise((resolve) => socket.once("data", resolve));
    socket.destroy();
    await waitFor(() => server.told.length > 0, { what: "the client's leaving" });
    stream.write(bytes("y"));
    stream.end();
    await Bun.sleep(5);
    expect(server.told).toEqual(["left"]);
  }
});

test("a client that takes nothing costs little, and is served on when it does", async () => {
  await using server = startServer();
  const opening = server.next();
  const socket = server.ask();
  socket.pause();
  const stream = await opening;
  const piece = new Uint8Array(16 * 1024).fill(0x61);
  let written = 0;
  // The system takes some megabytes for it first.
  await waitFor(() => {
    for (let i = 0; i < 16; i += 1) {
      written += piece.length;
      if (!stream.write(piece)) return true;
    }
    return false;
  });
  expect(stream.waitingSince).not.toBeNull();
  let got = 0;
  socket.on("data", (data) => (got += data.length));
  socket.resume();
  await waitFor(() => server.told.includes("drained"));
  expect(stream.waitingSince).toBeNull();
  stream.end();
  await waitFor(() => got > written);
  socket.destroy();
});
