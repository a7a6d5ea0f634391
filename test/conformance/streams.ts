/** Lines 15 to 17 and 23 to 25: what is in a stream, and when it passes. */

import { expect } from "bun:test";
import fc from "fast-check";
import OpenAI from "openai";
import { createStreamWatch } from "../../src/proxy/record/stream-watch.ts";
import { eventStream, startEngine, startRawEngine } from "../helpers/engine.ts";
import { CHAT, chat, startSimulated } from "./cluster.ts";
import { startPieceEngine } from "./pieces.ts";
import type { Line } from "./table.ts";

const DONE = "data: [DONE]\n\n";
const USAGE =
  'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\n';

/** Everything that a split may cut: letters of two to four bytes, line ends, names of fields. */
const MIXED = [
  ": ping\n\n",
  'data: {"choices":[{"index":0,"delta":{"content":"h\u00e9llo \u4f60\u597d \ud83d\ude00"}}]}\n\n',
  'event: x\r\ndata: {"choices":[{"delta":{"content":"\\u0000"}}]}\r\n\r\n',
  'data:{"choices":[{"index":1,"delta":{}}]}\r\r',
  'data: {"choices": [],"a":\ndata: 1}\n\n',
  'id: 7\nretry: 10\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n',
].join("");

function splitAt(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const at = [...new Set(cuts.map((cut) => cut % bytes.length))].sort((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length));
}

const cuts = fc.array(fc.nat(), { maxLength: 40 });

const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

const openai = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "k", maxRetries: 0 });
const messages = [{ role: "user" as const, content: "hi" }];

export const STREAMS: readonly Line[] = [
  {
    line: 15,
    title: "10,000 random splits leave the bytes as they are, with and without a usage frame",
    async run() {
      const plain = Buffer.from(MIXED + DONE);
      const counted = Buffer.from(MIXED + USAGE + DONE);
      const relayed = (sent: Buffer, at: readonly number[], dropUsage: boolean) => {
        const watch = createStreamWatch({ format: "sse", dropUsage, tailBytes: 65_536 });
        const out = splitAt(sent, at).map((piece) => watch.push(piece));
        return Buffer.concat([...out, watch.flush()].filter((part) => part !== null));
      };
      const property = fc.property(cuts, (at) => {
        expect(relayed(plain, at, false).equals(plain)).toBe(true);
        expect(relayed(plain, at, true).equals(plain)).toBe(true);
        expect(relayed(counted, at, true).equals(plain)).toBe(true);
      });
      fc.assert(property, { numRuns: 10_000 });
    },
  },
  {
    line: 15,
    title: "random splits through a head",
    async run(transport) {
      await using engine = await startPieceEngine("text/event-stream");
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const property = fc.asyncProperty(cuts, fc.boolean(), async (at, asks) => {
        const options = asks ? { stream_options: { include_usage: true } } : {};
        engine.pieces = splitAt(Buffer.from(MIXED + USAGE + DONE), at);
        const response = await cluster.post(CHAT, chat({ stream: true, ...options }));
        expect(await response.text()).toBe(MIXED + (asks ? USAGE : "") + DONE);
      });
      await fc.assert(property, { numRuns: 100 });
    },
  },
  {
    line: 15,
    title: "no chunk waits for the next one",
    async run(transport) {
      const chunks = [`data: {"choices":[{}]}\n\n`, ": ping\n\n", 'data: {"n":2}\r\n\r\n', DONE];
      const gates = chunks.map(() => Promise.withResolvers<void>());
      await using engine = startEngine(() =>
        eventStream(
          (async function* () {
            for (const [i, chunk] of chunks.entries()) {
              await gates[i]?.promise;
              yield chunk;
            }
          })(),
        ),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      gates[0]?.resolve();
      const response = await cluster.post(CHAT, chat({ stream: true }));
      const reader = response.body?.getReader();
      for (const [i, chunk] of chunks.entries()) {
        expect(Buffer.from((await reader?.read())?.value ?? "").toString()).toBe(chunk);
        gates[i + 1]?.resolve();
      }
      expect((await reader?.read())?.done).toBe(true);
    },
  },
  {
    line: 16,
    title: "[DONE] exactly once; without one the stream ends at once all the same",
    async run(transport) {
      await using sim = await startSimulated();
      await using bare = await startSimulated({ models: ["bare"], noDone: true });
      // Everything was said, and then the connection breaks.
      await using abrupt = startRawEngine((socket) => {
        const text = `data: {"choices":[{"finish_reason":"stop"}]}\n\n${DONE}`;
        socket.write(`${STREAM_HEAD}${text.length.toString(16)}\r\n${text}\r\n`);
        setTimeout(() => socket.reset(), 20);
      });
      await using cluster = await transport.start({
        binary: [],
        engines: [
          sim,
          { port: bare.port, models: ["bare"] },
          { port: abrupt.port, models: ["cut"] },
        ],
      });
      for (const [model, count] of [
        ["m", 1],
        ["bare", 0],
        ["cut", 1],
      ] as const) {
        const text = await (await cluster.post(CHAT, chat({ model, stream: true }))).text();
        expect([model, text.split(DONE).length - 1]).toEqual([model, count]);
        expect(text).not.toContain('"error"');
        if (model === "cut") continue;
        const stream = await openai(cluster.url).chat.completions.create({
          model,
          messages,
          stream: true,
        });
        const reasons = (await Array.fromAsync(stream)).map(({ choices }) => choices[0]);
        expect(reasons.at(-1)?.finish_reason).toBe("stop");
      }
    },
  },
  {
    line: 17,
    title: "silence before and between tokens survives, with comments that the SDK ignores",
    async run(transport) {
      await using sim = await startSimulated({ ttftMs: 400, silenceMs: 400 });
      const proxy = { firstKeepAliveMs: 100, keepAliveMs: 50 };
      await using cluster = await transport.start({ settings: { proxy }, engines: [sim] });
      const text = await (await cluster.post(CHAT, chat({ stream: true }))).text();
      const first = text.indexOf("data:");
      expect(text.slice(0, first)).toMatch(/^(: keep-alive\n\n){2,}$/);
      expect(text.slice(first)).toContain("\n\n: keep-alive\n\n");
      const bare = text.replaceAll(": keep-alive\n\n", "");
      expect(bare.split("\n\n").every((part) => part === "" || part.startsWith("data: "))).toBe(
        true,
      );
      const client = openai(cluster.url);
      const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
      let streamed = "";
      for await (const chunk of stream) streamed += chunk.choices[0]?.delta.content ?? "";
      const whole = await client.chat.completions.create({ model: "m", messages });
      expect(streamed).toBe(whole.choices[0]?.message.content ?? "-");
    },
  },
  {
    line: 17,
    title: "an engine that fails after comments is an event in the stream; NDJSON gets none",
    async run(transport) {
      await using engine = startEngine(async () => {
        await Bun.sleep(200);
        return Response.json({ error: { message: "boom" } }, { status: 500 });
      });
      await using ollama = await startSimulated({ like: "ollama", ttftMs: 200, models: ["o"] });
      const proxy = { firstKeepAliveMs: 50, keepAliveMs: 30 };
      await using cluster = await transport.start({
        settings: { proxy },
        engines: [engine, { port: ollama.port, kind: "ollama", models: ["o"] }],
      });
      const client = openai(cluster.url);
      const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
      await expect(Array.fromAsync(stream)).rejects.toThrow("boom");
      const named = await cluster.post("/v1/messages", { model: "m", max_tokens: 1, stream: true });
      expect(await named.text()).toEndWith(
        'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"boom"}}\n\n',
      );
      const lines = (
        await (await cluster.post("/api/chat", { model: "o", messages })).text()
      ).trim();
      for (const line of lines.split("\n")) expect(JSON.parse(line)).toBeObject();
      const whole = await cluster.post(CHAT, chat());
      expect([whole.status, whole.headers.get("content-type")]).toEqual([500, "application/json"]);
    },
  },
  {
    line: 23,
    title: "usage is asked for, and shown to those only who asked",
    async run(transport) {
      await using sim = await startSimulated();
      await using cluster = await transport.start({ binary: [], engines: [sim] });
      const read = async (options: object) =>
        await (await cluster.post(CHAT, chat({ stream: true, ...options }))).text();
      const plain = await read({});
      expect(plain).not.toContain('"choices":[]');
      expect(plain).toEndWith(DONE);
      expect(await read({ stream_options: { include_usage: false } })).not.toContain(
        '"choices":[]',
      );
      const asked = await read({ stream_options: { include_usage: true } });
      expect(asked.split('"choices":[]').length).toBe(2);
    },
  },
  {
    line: 23,
    title: "an engine that refuses stream_options is asked once more without, and it is remembered",
    async run(transport) {
      await using engine = startEngine((_, body) =>
        body.includes("stream_options")
          ? Response.json(
              { detail: [{ loc: ["body", "stream_options"], msg: "extra" }] },
              { status: 422 },
            )
          : eventStream(['data: {"choices":[{}]}\n\n', DONE]),
      );
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      for (let i = 0; i < 3; i += 1) {
        const response = await cluster.post(CHAT, chat({ stream: true }));
        expect([response.status, response.headers.get("x-llmnode-attempts")]).toEqual([200, "1"]);
        expect(await response.text()).toEndWith(DONE);
      }
      expect(engine.seen.map(({ body }) => body.includes("stream_options"))).toEqual([
        true,
        false,
        false,
        false,
      ]);
      // Who asks for it gets the engine's own refusal.
      const asking = chat({ stream: true, stream_options: { include_usage: true } });
      expect((await cluster.post(CHAT, asking)).status).toBe(422);
    },
  },
  {
    line: 24,
    title: "tool calls, reasoning, logprobs and several choices pass byte for byte",
    async run(transport) {
      const delta = (value: object) => `data: {"id":"c","choices":[${JSON.stringify(value)}]}\n\n`;
      const frames = [
        delta({ index: 0, delta: { role: "assistant", content: null } }),
        delta({ index: 0, delta: { reasoning_content: "hm", reasoning: "hm" } }),
        delta({
          index: 0,
          delta: { tool_calls: [{ index: 0, id: "a", function: { name: "f", arguments: "" } }] },
        }),
        delta({
          index: 0,
          delta: {
            tool_calls: [
              { index: 1, id: "b", function: { name: "g", arguments: "{" } },
              { index: 0, function: { arguments: "{}" } },
            ],
          },
        }),
        delta({
          index: 1,
          delta: { content: "x" },
          logprobs: { content: [{ token: "x", logprob: -0.1, bytes: [120], top_logprobs: [] }] },
        }),
        'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls","stop_reason":null,"n":1.50}]}\n\n',
        DONE,
      ];
      await using engine = startEngine(() => eventStream(frames));
      await using cluster = await transport.start({ binary: [], engines: [engine] });
      const response = await cluster.post(CHAT, chat({ stream: true, n: 2 }));
      expect(await response.text()).toBe(frames.join(""));
      const body = '{"choices":[{"message":{"tool_calls":[{"id":"a"}],"reasoning":null}}],"x":1e3}';
      await using whole = startEngine(() => new Response(body));
      await using other = await transport.start({ binary: [], engines: [whole] });
      expect(await (await other.post(CHAT, chat())).text()).toBe(body);
    },
  },
  {
    line: 25,
    title: "NDJSON passes in any split, untouched",
    async run(transport) {
      const text = `${['{"message":{"content":"h\u00e9"},"done":false}', '{"error":null,"done":false}', '{"done":true,"eval_count":2,"prompt_eval_count":3}'].join("\n")}\n`;
      await using engine = await startPieceEngine("application/x-ndjson");
      await using cluster = await transport.start({
        binary: [],
        engines: [{ port: engine.port, kind: "ollama" }],
      });
      const property = fc.asyncProperty(cuts, async (at) => {
        engine.pieces = splitAt(Buffer.from(text), at);
        const response = await cluster.post("/api/chat", { model: "m", messages });
        expect(response.headers.get("content-type")).toBe("application/x-ndjson");
        expect(await response.text()).toBe(text);
      });
      await fc.assert(property, { numRuns: 50 });
    },
  },
];
