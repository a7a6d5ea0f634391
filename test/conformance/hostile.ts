/** Lines 2, 3 and 9 once more, as an attacker would have them: below HTTP. */

import { expect } from "bun:test";
import { chatAnswer, startEngine, startRawEngine } from "../helpers/engine.ts";
import { waitFor } from "../helpers/wait.ts";
import { CHAT, chat } from "./cluster.ts";
import { connect, rawPost, statuses } from "./socket.ts";
import type { Line } from "./table.ts";

const BODY = JSON.stringify(chat());
const SMUGGLED = "GET /v1/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/** Heads of a POST whose length may be read in two ways, each followed by a hidden request. */
const LENGTHS: [string, string[], string][] = [
  ["a length and chunks", ["Content-Length: 4", "Transfer-Encoding: chunked"], "0\r\n\r\n"],
  ["chunks and a length", ["Transfer-Encoding: chunked", "Content-Length: 4"], "0\r\n\r\n"],
  ["two lengths", ["Content-Length: 0", "Content-Length: 44"], ""],
  ["a list of lengths", ["Content-Length: 0, 44"], ""],
  ["a negative length", ["Content-Length: -1"], ""],
  ["a length with a sign", ["Content-Length: +44"], ""],
  ["a length in hex", ["Content-Length: 0x2c"], ""],
  ["an unknown transfer-encoding", ["Transfer-Encoding: xchunked"], "0\r\n\r\n"],
  [
    "two transfer-encodings",
    ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
    "0\r\n\r\n",
  ],
  ["a space before the colon", ["Transfer-Encoding : chunked"], "0\r\n\r\n"],
  ["a folded header", ["Content-Length:", " 44"], ""],
  ["a chunk size that is none", ["Transfer-Encoding: chunked"], "zz\r\n\r\n"],
  ["a chunk size beyond all bounds", ["Transfer-Encoding: chunked"], "fffffffffffffffff\r\n\r\n"],
];

const HEADS: [string, string, number][] = [
  ["10,000 headers", Array.from({ length: 10_000 }, (_, i) => `x-${i}: v\r\n`).join(""), 431],
  ["a header of 100 KB", `x: ${"a".repeat(100_000)}\r\n`, 431],
  ["a control character", "x-request-id: a\u0001b\r\n", 400],
  ["a null byte", "x-request-id: a\u0000b\r\n", 400],
  ["a bare carriage return", "x: a\rb: c\r\n", 400],
  ["a header without a name", ": v\r\n", 400],
  ["a header without a colon", "x\r\n", 400],
];

export const HOSTILE: readonly Line[] = [
  {
    line: 2,
    title: "heads that are none are refused, and the head serves on",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      for (const [what, head, status] of HEADS) {
        using client = await connect(cluster.port);
        client.write(`GET /v1/models HTTP/1.1\r\nHost: h\r\n${head}\r\n`);
        expect([what, ...statuses(await client.closed())]).toEqual([what, status]);
      }
      using garbage = await connect(cluster.port);
      garbage.write(Buffer.from("160301020001", "hex"));
      expect(statuses(await garbage.closed())).toEqual([400]);
      expect((await cluster.post(CHAT, chat())).status).toBe(200);
      expect(engine.seen.length).toBe(1);
    },
  },
  {
    line: 3,
    title: "a length that can be read in two ways smuggles no request",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      for (const [what, headers, body] of LENGTHS) {
        using client = await connect(cluster.port);
        const head = [`POST ${CHAT} HTTP/1.1`, "Host: h", ...headers].join("\r\n");
        client.write(`${head}\r\n\r\n${body}${SMUGGLED}`);
        const [first, ...more] = statuses(await client.closed());
        expect([what, first, more]).toEqual([what, 400, []]);
      }
      expect(engine.seen.length).toBe(0);
    },
  },
  {
    line: 3,
    // Bun's server closes a connection on which a request comes before the last one is answered.
    title: "pipelined requests are answered in order or not at all, and leave nothing behind",
    async run(transport) {
      await using engine = startEngine(async (_, body) => {
        const { n } = JSON.parse(body) as { n: number };
        // The first is the slowest.
        await Bun.sleep(60 - n * 20);
        return Response.json({ answer: n });
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      using client = await connect(cluster.port);
      client.write([0, 1, 2].map((n) => rawPost(CHAT, JSON.stringify(chat({ n })))).join(""));
      await waitFor(() => client.isClosed || client.received().includes('"answer":2'));
      const answers = [...client.received().matchAll(/"answer":(\d)/g)].map((match) => match[1]);
      expect(answers).toEqual(["0", "1", "2"].slice(0, answers.length));
      await cluster.idle();
      using quick = await connect(cluster.port);
      quick.write("GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3));
      await waitFor(() => quick.isClosed || statuses(quick.received()).length === 3);
      expect(statuses(quick.received()).every((status) => status === 200)).toBe(true);
    },
  },
  {
    line: 3,
    title: "a body that never ends, or comes too slowly, is given up and its memory given back",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      const settings = { bodyTimeoutMs: 200, maxHeldBytes: 3_000_000 };
      await using cluster = await transport.start({ settings, engines: [engine] });
      const form = '--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n';
      const heads = [
        rawPost(CHAT, "").replace("Content-Length: 0", "Content-Length: 2000000"),
        rawPost(CHAT, "").replace("Content-Length: 0", "Transfer-Encoding: chunked"),
        rawPost("/v1/audio/transcriptions", "")
          .replace("Content-Length: 0", "Content-Length: 2000000")
          .replace("application/json", "multipart/form-data; boundary=b") + form,
      ];
      for (const head of heads) {
        using client = await connect(cluster.port);
        client.write(head);
        const drip = setInterval(
          () => client.write(head.includes("chunked") ? "1\r\nx\r\n" : "x"),
          20,
        );
        try {
          const text = await client.until((got) => got.includes("not complete after"), "a 400");
          expect(statuses(text)).toEqual([400]);
        } finally {
          clearInterval(drip);
        }
      }
      // All of it can be held again.
      const large = await cluster.post(CHAT, chat({ x: "y".repeat(2_900_000) }));
      expect(large.status).toBe(200);
    },
  },
  {
    line: 3,
    title: "a form whose sender stops after the model does not hold its engine",
    async run(transport) {
      await using engine = startRawEngine(() => {});
      const settings = { bodyTimeoutMs: 200 };
      await using cluster = await transport.start({ settings, engines: [engine] });
      using client = await connect(cluster.port);
      const form = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n';
      client.write(
        `POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n` +
          `Content-Type: multipart/form-data; boundary=b\r\n\r\n${form}${"x".repeat(100_000)}`,
      );
      await waitFor(() => engine.requests > 0, { what: "the form at the engine" });
      await client.until((text) => statuses(text).length === 1, "an answer");
      expect(statuses(client.received())).toEqual([400]);
      await cluster.idle();
    },
  },
  {
    line: 9,
    title: "paths that are written in other ways reach no other route",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const paths: [string, number][] = [
        ["/v1/chat/completions?x=1&y=%00", 200],
        ["http://other.test/v1/chat/completions", 200],
        ["/v1/chat%2Fcompletions", 404],
        ["/V1/chat/completions", 404],
        ["/v1/chat/completions%00", 404],
        ["/v1/p2p/x/v1/_service/llm/sleep", 404],
        ["/v1/service/llm//sleep", 404],
        ["/v1/service/llm", 404],
        ["/v1/p2p/%E0%A4%A/v1/_service/llm/v1/chat/completions", 400],
        [`/${"x".repeat(5000)}`, 404],
      ];
      for (const [path, status] of paths) {
        using client = await connect(cluster.port);
        client.write(rawPost(path, BODY, ["Connection: close"]));
        const answer = await client.closed();
        expect([path.slice(0, 60), ...statuses(answer)]).toEqual([path.slice(0, 60), status]);
        expect(answer.length).toBeLessThan(2000);
      }
      expect(engine.seen.map(({ path }) => path)).toEqual([`${CHAT}?x=1&y=%00`, CHAT]);
    },
  },
];
