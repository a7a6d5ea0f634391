/** Lines 3 and 4: how large bodies may be, and forms. */

import { expect } from "bun:test";
import OpenAI, { toFile } from "openai";
import { chatAnswer, startEngine, startRawEngine } from "../helpers/engine.ts";
import { CHAT } from "./cluster.ts";
import { connect, rawPost, statuses } from "./socket.ts";
import type { Line } from "./table.ts";

function sized(bytes: number): string {
  const frame = '{"model":"m","x":""}';
  return frame.replace('""', `"${"y".repeat(bytes - frame.length)}"`);
}

const LIMIT = 1024 * 1024;

export const BODIES: readonly Line[] = [
  {
    line: 3,
    title: "a body over the limit is a 413 before it is sent; 2 MB and 20 MB pass",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      using client = await connect(cluster.port);
      // The default limit is 64 MiB.
      client.write(rawPost(CHAT, "").replace("Content-Length: 0", "Content-Length: 67108865"));
      const answer = await client.until((text) => text.includes("request_too_large"), "a 413");
      expect(statuses(answer)).toEqual([413]);
      for (const megabytes of [2, 20]) {
        expect((await cluster.post(CHAT, sized(megabytes * 1_000_000))).status).toBe(200);
        expect(engine.seen.at(-1)?.body.length).toBe(megabytes * 1_000_000);
      }
    },
  },
  {
    line: 3,
    title: "by count too: one byte under passes, one over does not, and what never ends is cut",
    async run(transport) {
      await using engine = startEngine(() => chatAnswer("ok"));
      const binary = ["--max-body-size", "1MiB"];
      await using cluster = await transport.start({ binary, engines: [engine] });
      const chunked = (text: string) =>
        fetch(`${cluster.url}${CHAT}`, {
          method: "POST",
          body: (async function* () {
            for (let at = 0; at < text.length; at += 65_000) {
              yield Buffer.from(text.slice(at, at + 65_000));
            }
          })(),
        });
      expect((await cluster.post(CHAT, sized(LIMIT))).status).toBe(200);
      expect((await chunked(sized(LIMIT))).status).toBe(200);
      const refused = await cluster.post(CHAT, sized(LIMIT + 1));
      expect([refused.status, await refused.json()]).toMatchObject([
        413,
        { error: { type: "invalid_request_error", code: "request_too_large" } },
      ]);
      expect((await chunked(sized(LIMIT + 1))).status).toBe(413);
      using endless = await connect(cluster.port);
      endless.write(rawPost(CHAT, "").replace("Content-Length: 0", "Transfer-Encoding: chunked"));
      const chunk = `8000\r\n${"x".repeat(0x8000)}\r\n`;
      while (!endless.received().includes("request_too_large") && !endless.isClosed) {
        endless.write(chunk);
        await Bun.sleep(1);
      }
      expect(statuses(endless.received())).toEqual([413]);
      expect(engine.seen.length).toBe(2);
    },
  },
  {
    line: 4,
    title: "a form from the SDK: the boundary is intact, the model is found, last too",
    async run(transport) {
      await using engine = startEngine(() => Response.json({ text: "hello" }));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const client = new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: "k" });
      const file = await toFile(Buffer.alloc(3_000_000, "\r\n--"), "speech.wav");
      const { text } = await client.audio.transcriptions.create({ file, model: "m" });
      expect(text).toBe("hello");
      const form = (parts: string[]) =>
        [
          ...parts.map((part) => `--b\r\nContent-Disposition: form-data; ${part}\r\n`),
          "--b--\r\n",
        ].join("");
      const big = `name="file"; filename="a.wav"\r\n\r\n${"z".repeat(2_000_000)}`;
      for (const parts of [
        ['name="model"\r\n\r\nm', big],
        [big, 'name="model"\r\n\r\nm'],
      ]) {
        const response = await cluster.post("/v1/audio/transcriptions", form(parts), {
          headers: { "content-type": "multipart/form-data; boundary=b" },
        });
        expect(response.status).toBe(200);
        expect(engine.seen.at(-1)?.body === form(parts)).toBe(true);
        expect(engine.seen.at(-1)?.headers.get("content-type")).toBe(
          "multipart/form-data; boundary=b",
        );
      }
    },
  },
  {
    line: 4,
    title: "a form whose model comes first is passed on while it arrives",
    async run(transport) {
      let arrived = "";
      await using engine = startRawEngine((socket, text) => {
        arrived += text;
        if (!arrived.includes("\r\n0\r\n\r\n")) return;
        socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\nok");
      });
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      using client = await connect(cluster.port);
      const head = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\n';
      const tail = "\r\n--b--\r\n";
      const length = head.length + 3_000_000 + tail.length;
      client.write(
        `POST /v1/audio/transcriptions HTTP/1.1\r\nHost: h\r\nContent-Length: ${length}\r\n` +
          `Content-Type: multipart/form-data; boundary=b\r\n\r\n${head}${"x".repeat(1_000_000)}`,
      );
      await client.until(() => arrived.includes("xxxx"), "the first part at the engine");
      client.write("x".repeat(2_000_000) + tail);
      expect(await client.until((text) => text.endsWith("ok"), "an answer")).toContain("200 OK");
      expect(arrived).toContain(tail);
    },
  },
];
