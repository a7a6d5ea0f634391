/** Lines that need whole seconds, apart from the others so that they run beside them. */

import { expect } from "bun:test";
import OpenAI from "openai";
import { startEngine } from "../helpers/engine.ts";
import { CHAT, chat, startSimulated } from "./cluster.ts";
import { connect } from "./socket.ts";
import type { Line } from "./table.ts";

const messages = [{ role: "user" as const, content: "hi" }];

export const SLOW: readonly Line[] = [
  {
    line: 17,
    title: "silence longer than the idle limits of server and client libraries (10 s)",
    timeoutMs: 60_000,
    async run(transport) {
      await using before = await startSimulated({ ttftMs: 11_000, models: ["before"] });
      await using between = await startSimulated({ silenceMs: 11_000, models: ["between"] });
      await using whole = startEngine(async () => {
        await Bun.sleep(11_000);
        return Response.json({ late: true });
      });
      await using cluster = await transport.start({
        binary: [],
        engines: [
          { port: before.port, models: ["before"] },
          { port: between.port, models: ["between"] },
          whole,
        ],
      });
      const client = new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: "k", maxRetries: 0 });
      const streams = ["before", "between"].map(async (model) => {
        const asked = { model, messages, stream: true as const, max_tokens: 4 };
        const chunks = await Array.fromAsync(await client.chat.completions.create(asked));
        return chunks.at(-1)?.choices[0]?.finish_reason;
      });
      const plain = cluster.post(CHAT, chat()).then((response) => response.json());
      expect(await Promise.all([...streams, plain])).toEqual(["length", "length", { late: true }]);
    },
  },
  {
    line: 2,
    title: "slow-loris: a head that is dripped byte by byte is cut",
    timeoutMs: 60_000,
    async run(transport) {
      await using cluster = await transport.start({ binary: [], engines: [] });
      using client = await connect(cluster.port);
      const began = performance.now();
      client.write("GET /v1/models HTTP/1.1\r\nHost: h\r\nx-long: ");
      while (!client.isClosed && performance.now() - began < 30_000) {
        client.write("a");
        await Bun.sleep(250);
      }
      expect(client.isClosed).toBe(true);
      expect((await fetch(`${cluster.url}/health/live`)).status).toBe(200);
    },
  },
];
