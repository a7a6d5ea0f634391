/** Lines 21 and 22: clients that leave, and clients that stop reading. */

import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { chatAnswer, eventStream, startEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { CHAT, type Cluster, chat } from "./cluster.ts";
import { connect, rawPost } from "./socket.ts";
import type { Line } from "./table.ts";

function forever(): Promise<never> {
  return new Promise(() => {});
}

async function* stuckAfter(frames: readonly string[]): AsyncGenerator<string> {
  yield* frames;
  await forever();
}

/** Of a process: resident memory in bytes, and open descriptors. */
function sizeOf(pid: number): { memoryBytes: number; descriptors: number } {
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return {
    memoryBytes: Number(kib) * 1024,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** Aborts `count` streams, `at` a time, each after its first frame, and waits until all is quiet. */
async function abortMany(cluster: Cluster, count: number, at: number): Promise<void> {
  let left = count;
  const one = async () => {
    while (left > 0) {
      left -= 1;
      const client = new AbortController();
      const init = { signal: client.signal };
      const response = await cluster.post(CHAT, chat({ stream: true }), init);
      await response.body?.getReader().read();
      client.abort();
    }
  };
  await Promise.all(Array.from({ length: at }, one));
  await cluster.idle();
}

const PHASES: [string, object, () => Response | Promise<Response>][] = [
  ["before a plain answer", {}, forever],
  ["before a stream's headers", { stream: true }, forever],
  ["before the first frame", { stream: true }, () => eventStream(stuckAfter([]))],
  ["between frames", { stream: true }, () => eventStream(stuckAfter(['data: {"choices":[]}\n\n']))],
  [
    "inside a frame",
    { stream: true },
    () => eventStream(stuckAfter(['data: {"choices":[{}]}\n\nda'])),
  ],
  ["in a plain answer", {}, () => new Response(eventStream(stuckAfter(["{"])).body)],
];

export const CLIENTS: readonly Line[] = [
  ...PHASES.map(([when, extra, answer]): Line => ({
    line: 21,
    title: `a client that leaves ${when}: the engine sees it before its next token`,
    async run(transport) {
      await using engine = startEngine(answer);
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const client = new AbortController();
      const request = cluster
        .post(CHAT, chat(extra), { signal: client.signal })
        .then((response) => response.text())
        .then(
          () => "ended",
          () => "aborted",
        );
      await waitFor(async () => engine.seen.length === 1 && (await cluster.inFlight()) === 1);
      client.abort();
      expect(await request).toBe("aborted");
      await waitFor(() => engine.aborted === 1, { what: "the engine to see the cancel" });
      await cluster.idle();
    },
  })),
  {
    line: 21,
    title: "a client that leaves while it sends, or closes its sending side, is gone",
    async run(transport) {
      await using engine = startEngine(() => eventStream(stuckAfter(['data: {"a":1}\n\n'])));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      {
        using client = await connect(cluster.port);
        client.write(rawPost(CHAT, JSON.stringify(chat())).slice(0, -5));
      }
      using half = await connect(cluster.port);
      half.write(rawPost(CHAT, JSON.stringify(chat({ stream: true }))));
      await half.until((text) => text.includes('"a":1'), "the first frame");
      half.end();
      await waitFor(() => engine.aborted === 1, { what: "the engine to see the cancel" });
      await cluster.idle();
      expect(engine.seen.length).toBe(1);
    },
  },
  {
    line: 21,
    title: "1000 aborts leave memory and descriptors flat",
    timeoutMs: 60_000,
    async run(transport) {
      await using engine = startEngine(() =>
        eventStream(stuckAfter(['data: {"choices":[{}]}\n\n'])),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const pid = cluster.process?.pid ?? 0;
      // What a first load makes the head open and grow to is not what this is about.
      await abortMany(cluster, 500, 25);
      const { descriptors } = sizeOf(pid);
      // A heap grows to its size, and between one collection and the next; what leaks grows in each round.
      let grownBytes = Number.POSITIVE_INFINITY;
      for (let round = 0; round < 12 && grownBytes > 8 * 1024 * 1024; round += 1) {
        const before = sizeOf(pid);
        await abortMany(cluster, 1000, 25);
        await waitFor(() => sizeOf(pid).descriptors <= descriptors + 5, {
          what: "descriptors to be closed",
        });
        grownBytes = sizeOf(pid).memoryBytes - before.memoryBytes;
      }
      expect(grownBytes).toBeLessThanOrEqual(8 * 1024 * 1024);
      expect((await cluster.post(CHAT, chat({ model: "none" }))).status).toBeGreaterThan(400);
    },
  },
  {
    line: 22,
    title: "a reader that stops while 200 MB are pushed costs the head less than 32 MB",
    timeoutMs: 60_000,
    async run(transport) {
      const total = 200 * 1024 * 1024;
      const frame = Buffer.from(`data: ${"x".repeat(64 * 1024 - 8)}\n\n`);
      let pushed = 0;
      await using engine = startEngine((_, body) => {
        if (body.includes("small")) return chatAnswer("ok");
        const stream = new ReadableStream({
          pull(controller) {
            if (pushed >= total) return controller.close();
            pushed += frame.length;
            controller.enqueue(frame);
          },
        });
        return new Response(stream, { headers: { "content-type": "text/event-stream" } });
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const pid = cluster.process?.pid ?? 0;
      await cluster.post(CHAT, chat({ content: "small" }));
      const before = sizeOf(pid).memoryBytes;
      let taken = 0;
      const response = await cluster.post(CHAT, chat({ stream: true }));
      const reader = response.body?.getReader();
      taken += (await reader?.read())?.value?.length ?? 0;
      let last = -1;
      let peak = 0;
      await waitFor(async () => {
        const still = pushed === last;
        last = pushed;
        peak = Math.max(peak, sizeOf(pid).memoryBytes);
        await Bun.sleep(100);
        return still && pushed > frame.length;
      });
      expect(pushed).toBeLessThan(total);
      expect(peak - before).toBeLessThan(32 * 1024 * 1024);
      expect((await cluster.post(CHAT, chat({ content: "small" }))).status).toBe(200);
      for (;;) {
        const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
        if (done) break;
        taken += value?.length ?? 0;
        peak = Math.max(peak, sizeOf(pid).memoryBytes);
      }
      expect(taken).toBe(total);
      await cluster.idle();
    },
  },
];
