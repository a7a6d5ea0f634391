/** Lines 30 to 34: time limits, health, the end of a head, reused connections, metrics. */

import { expect } from "bun:test";
import net from "node:net";
import { directUpstream } from "../helpers/upstream.ts";
import { chatAnswer, eventStream, startEngine, startRawEngine } from "../helpers/engine.ts";
import { spawnProcess } from "../helpers/process.ts";
import { waitFor } from "../helpers/wait.ts";
import { startFront } from "../proxy/front.ts";
import { CHAT, chat, startSimulated } from "./cluster.ts";
import { connect, rawPost, statuses } from "./socket.ts";
import type { Line } from "./table.ts";

const DONE = "data: [DONE]\n\n";

/** A program that listens and never accepts: its queue fills, then no more connections are made. */
const DEAF = `
const server = require("node:net").createServer();
server.listen({ port: 0, host: "127.0.0.1" }, () => {
  require("node:fs").writeSync(1, "port " + server.address().port + "\\n");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});`;

/** Opens connections to a port that accepts none, until no more can be made. */
async function fillQueue(port: number): Promise<Disposable> {
  const sockets: net.Socket[] = [];
  let made = 0;
  let isFull = false;
  while (!isFull) {
    const before = made;
    for (let i = 0; i < 100; i += 1) {
      const socket = net.connect(port, "127.0.0.1", () => {
        made += 1;
      });
      // Ends with the test, in whichever state it is then.
      socket.on("error", () => {});
      sockets.push(socket);
    }
    await waitFor(() => made === before + 100, { timeoutMs: 300 }).catch(() => {
      isFull = true;
    });
  }
  return {
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Streams frames until a gate opens. */
function gated() {
  const gate = Promise.withResolvers<void>();
  const answer = () =>
    eventStream(
      (async function* () {
        yield 'data: {"choices":[{}]}\n\n';
        await gate.promise;
        yield DONE;
      })(),
    );
  return { answer, open: () => gate.resolve() };
}

export const LIFE: readonly Line[] = [
  {
    line: 30,
    title: "connect: an engine that accepts nothing is given up in time, and another one answers",
    async run() {
      await using deaf = spawnProcess([process.execPath, "-e", DEAF]);
      const [, port = ""] = await deaf.waitForLine(/port (\d+)/);
      using _ = await fillQueue(Number(port));
      await using good = startEngine(() => chatAnswer("good"));
      await using front = startFront({
        upstreams: [
          directUpstream(`http://127.0.0.1:${port}`, { connectTimeoutMs: 200 }),
          directUpstream(`http://127.0.0.1:${good.port}`),
        ],
      });
      const response = await front.post(CHAT, chat());
      expect([response.status, response.headers.get("x-llmnode-attempts")]).toEqual([200, "2"]);
      expect(front.outcomes).toEqual(["unreachable", "ok"]);
    },
  },
  {
    line: 30,
    title: "connect: an engine that is only slow is waited for",
    async run() {
      await using slow = startEngine(async () => {
        await Bun.sleep(500);
        return chatAnswer("slow");
      });
      const url = `http://127.0.0.1:${slow.port}`;
      const upstreams = [directUpstream(url, { connectTimeoutMs: 100 })];
      await using front = startFront({ upstreams });
      expect((await front.post(CHAT, chat())).status).toBe(200);
    },
  },
  {
    line: 30,
    title: "first byte and silence of an engine that hangs",
    needs: ["stalls"],
  },
  {
    line: 30,
    title: "a client that takes no byte is cut, and its engine is free",
    async run(transport) {
      const frame = `data: ${"x".repeat(64 * 1024)}\n\n`;
      await using engine = startEngine(() =>
        eventStream(
          (async function* () {
            for (;;) yield frame;
          })(),
        ),
      );
      const settings = { proxy: { slowClientMs: 300, keepAliveMs: 300 } };
      await using cluster = await transport.start({ settings, engines: [engine] });
      using client = await connect(cluster.port);
      client.write(rawPost(CHAT, JSON.stringify(chat({ stream: true }))));
      await client.until((text) => text.includes("data:"), "the first frame");
      client.pause();
      await waitFor(() => engine.aborted === 1, { what: "the engine to see the cancel" });
      await cluster.idle();
      client.resume();
      const text = await client.closed();
      expect(text).not.toContain("0\r\n\r\n");
    },
  },
  {
    line: 30,
    title: "in all: none by default, else 504 before the first byte and an error frame after it",
    async run(transport) {
      const { answer } = gated();
      await using engine = startEngine((_, body) =>
        body.includes('"stream":true') ? answer() : new Promise<Response>(() => {}),
      );
      const settings = { proxy: { totalTimeoutMs: 200 } };
      await using cluster = await transport.start({ settings, engines: [engine] });
      const late = await cluster.post(CHAT, chat());
      expect([late.status, await late.json()]).toMatchObject([
        504,
        { error: { type: "timeout", code: "upstream_timeout" } },
      ]);
      const text = await (await cluster.post(CHAT, chat({ stream: true }))).text();
      expect(text).toStartWith('data: {"choices":[{}]}\n\ndata: {"error":');
      expect(text).toContain('"upstream_timeout"');
      await waitFor(() => engine.aborted === 2);
      await cluster.idle();
    },
  },
  {
    line: 31,
    title: "health: live and ready without any worker, without auth, also by HTTP/1.0",
    async run(transport) {
      await using cluster = await transport.start({ binary: [], engines: [] });
      for (const path of ["/health/live", "/health/ready"]) {
        const response = await fetch(`${cluster.url}${path}`);
        expect(response.status).toBe(200);
        expect(Object.keys((await response.json()) as object)).toEqual(["status"]);
        // As older load balancers ask.
        using client = await connect(cluster.port);
        client.write(`GET ${path} HTTP/1.0\r\n\r\n`);
        expect(statuses(await client.closed())).toEqual([200]);
      }
    },
  },
  {
    line: 32,
    title: "SIGTERM: new requests 503 and `connection: close`, streams end, exit 0",
    async run(transport) {
      const { answer, open } = gated();
      await using engine = startEngine(answer);
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const running = await cluster.post(CHAT, chat({ stream: true }));
      cluster.process?.kill("SIGTERM");
      await waitFor(async () => (await fetch(`${cluster.url}/health/ready`)).status === 503);
      expect((await fetch(`${cluster.url}/health/live`)).status).toBe(200);
      using client = await connect(cluster.port);
      client.write(rawPost(CHAT, JSON.stringify(chat())));
      const refused = await client.closed();
      expect(statuses(refused)).toEqual([503]);
      expect(refused).toMatch(/connection: close/i);
      expect(refused).toContain('"code":"shutting_down"');
      open();
      expect(await running.text()).toBe(`data: {"choices":[{}]}\n\n${DONE}`);
      expect((await cluster.process?.finished)?.code).toBe(0);
    },
  },
  {
    line: 32,
    title: "a second signal forces: streams end with an error frame, exit 0",
    async run(transport) {
      const { answer } = gated();
      await using engine = startEngine(answer);
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const running = await cluster.post(CHAT, chat({ stream: true }));
      cluster.process?.kill("SIGTERM");
      // Signals that come close together count as one.
      await Bun.sleep(600);
      cluster.process?.kill("SIGTERM");
      const text = await running.text();
      expect(text).toContain('data: {"error":');
      expect(text).not.toContain("[DONE]");
      expect((await cluster.process?.finished)?.code).toBe(0);
    },
  },
  {
    line: 32,
    title: "not ready but serving for --shutdown-delay",
    async run(transport) {
      const { answer, open } = gated();
      open();
      await using engine = startEngine(answer);
      const flags = ["--shutdown-delay", "3s"];
      await using cluster = await transport.start({ binary: flags, engines: [engine] });
      cluster.process?.kill("SIGTERM");
      await waitFor(async () => (await fetch(`${cluster.url}/health/ready`)).status === 503);
      const served = await cluster.post(CHAT, chat({ stream: true }));
      expect(served.status).toBe(200);
      expect(await served.text()).toEndWith(DONE);
      const refused = await waitFor(async () => {
        const response = await cluster.post(CHAT, chat()).catch(() => null);
        return response === null || response.status === 503;
      });
      expect(refused).toBe(true);
      expect((await cluster.process?.finished)?.code).toBe(0);
    },
  },
  {
    line: 33,
    title: "1000 requests on connections that the engine closes just then: no client error",
    async run(transport) {
      const body = "{}";
      const answer = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n${body}`;
      let number = 0;
      // Closed at once, a little later, or at the very arrival of the next request; in order or not.
      await using engine = startRawEngine((socket, _, count) => {
        number += 1;
        const way = number % 4;
        if (count > 1 && way === 0) return socket.reset();
        socket.write(answer);
        if (way === 1) socket.end();
        if (way === 2) setTimeout(() => socket.end(), number % 3);
        if (way === 3) setTimeout(() => socket.reset(), number % 3);
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const failed: number[] = [];
      let left = 1000;
      const one = async () => {
        while (left > 0) {
          left -= 1;
          const response = await cluster.post(CHAT, chat());
          if (response.status !== 200 || (await response.text()) !== body)
            failed.push(response.status);
          await Bun.sleep(left % 3);
        }
      };
      await Promise.all(Array.from({ length: 8 }, one));
      expect(failed).toEqual([]);
    },
  },
  {
    line: 34,
    title: "10,000 unknown model names leave one metric series",
    async run(transport) {
      await using sim = await startSimulated();
      await using cluster = await transport.start({ engines: [sim] });
      const series = async () =>
        (await (await fetch(`${cluster.url}/metrics`)).text())
          .split("\n")
          .filter((line) => line.startsWith("llmnode_requests_total{"));
      await cluster.post(CHAT, chat());
      const before = (await series()).length;
      let left = 10_000;
      const one = async () => {
        while (left > 0) {
          left -= 1;
          await (await cluster.post(CHAT, chat({ model: `unknown-${left}` }))).text();
        }
      };
      await Promise.all(Array.from({ length: 16 }, one));
      const after = await series();
      expect(after.length).toBe(before + 1);
      const unresolved = after.filter((line) => line.includes('model="unresolved"'));
      expect(unresolved.map((line) => line.split(" ").at(-1))).toEqual(["10000"]);
      expect(after.join("\n")).not.toContain("unknown-");
    },
  },
];
